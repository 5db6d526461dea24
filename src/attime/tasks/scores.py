"""How outputs are scored, with ties counted as what a coin would make of them: equal logits score exactly chance."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

__all__ = ["certain", "chance_of_tokens", "hits", "ranked", "tally_of_tokens"]


def hits(outputs: Float[Tensor, "scored vocabulary"], targets: Int[Tensor, " scored"]) -> Float[Tensor, " scored"]:
    """Chance that the target is taken as the largest output: 1, 0, or 1/n where n are equally large."""
    best = outputs.amax(dim=1, keepdim=True)
    at_best = outputs == best
    return at_best.gather(1, targets[:, None])[:, 0].double() / at_best.sum(dim=1)


def ranked(
    above: Int[Tensor, " scored"], equal: Int[Tensor, " scored"], places: int
) -> tuple[Float[Tensor, " scored"], Float[Tensor, " scored"]]:
    """Hit rate and NDCG within `places` of a target with `above` better and `equal` equally good rivals."""
    top = torch.arange(places, dtype=torch.float64)
    gains = torch.cat([torch.zeros(1, dtype=torch.float64), (1 / (top + 2).log2()).cumsum(0)])
    first, last = above.clamp(max=places), (above + equal + 1).clamp(max=places)
    draws = (equal + 1).double()
    return (last - first) / draws, (gains[last] - gains[first]) / draws


def certain(targets: Int[Tensor, " scored"], vocabulary: int) -> Float[Tensor, "scored vocabulary"]:
    """Logits of somebody who knows."""
    return 50.0 * F.one_hot(targets, vocabulary).float()


def tally_of_tokens(outputs: Tensor, targets: Tensor) -> Mapping[str, tuple[float, float]]:
    """Sums and counts of `accuracy` and `nats`, for tasks that predict tokens."""
    count = float(len(targets))
    nats = F.cross_entropy(outputs, targets, reduction="sum")
    return {"accuracy": (float(hits(outputs, targets).sum()), count), "nats": (float(nats), count)}


def chance_of_tokens(vocabulary: int) -> Mapping[str, float]:
    """The scores of equal logits."""
    return {"accuracy": 1 / vocabulary, "nats": float(torch.tensor(float(vocabulary)).log())}
