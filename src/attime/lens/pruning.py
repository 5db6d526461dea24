r"""What a head is worth: how the model's predictions change when the head is taken out.

    probability    p(true) - p'(true)                     flips    argmax p != argmax p'
    surprise       log p(true) - log p'(true)             divergence    JS(p, p'), in bits

Source:  How does attention work in vision transformers?, arXiv 2303.13731, sec. 4 (importance of a head by pruning it; image by
         image, so that it can be ranked over any subset of the images).
Names:   our `surprise` is the rise of the cross-entropy, in nats. `flips` and `divergence` need no labels.
         `with steer(model, PrunedHeads(chosen=((path, head),))): pruned = model(**inputs).logits`
Cost:    one pass of the model over the images for each head.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attime.errors import AttimeError
from attime.lens.hops import divergence

__all__ = ["Importance", "importance", "rank_agreement"]


class Importance(NamedTuple):
    """Image by image, what a head is worth; 0: nothing changes without it."""

    probability: Float[Tensor, " images"]
    """Fall of the true class's probability, -1 to 1."""
    flips: Float[Tensor, " images"]
    """1 where the likeliest class is another one, else 0."""
    surprise: Float[Tensor, " images"]
    """Rise of the cross-entropy, in nats."""
    divergence: Float[Tensor, " images"]
    """Jensen-Shannon divergence of the predictions, 0 to 1."""
    mistakes: Float[Tensor, " images"]
    """1 where a right prediction becomes a wrong one, -1 for the reverse; the mean is the drop of accuracy."""


def importance(
    whole: Float[Tensor, "images classes"], pruned: Float[Tensor, "images classes"], true: Int[Tensor, " images"]
) -> Importance:
    """From the logits of the whole model and of the model without the head."""
    if whole.shape != pruned.shape or true.shape != whole.shape[:1]:
        raise AttimeError(
            f"importance needs logits (images classes) of the same images with and without a head, and a class for each; got "
            f"{tuple(whole.shape)}, {tuple(pruned.shape)} and {tuple(true.shape)}."
        )
    logs, less = whole.log_softmax(-1), pruned.log_softmax(-1)
    was, now = (each.gather(1, true[:, None])[:, 0] for each in (logs, less))
    best, other = whole.argmax(-1), pruned.argmax(-1)
    return Importance(
        probability=was.exp() - now.exp(),
        flips=(best != other).to(whole.dtype),
        surprise=was - now,
        divergence=divergence(whole, pruned),
        mistakes=(best == true).to(whole.dtype) - (other == true).to(whole.dtype),
    )


def rank_agreement(one: Float[Tensor, " heads"], two: Float[Tensor, " heads"]) -> float:
    """Spearman's correlation of two rankings, -1 to 1; equals share their mean rank, and a constant agrees with nothing (0)."""
    if one.shape != two.shape or one.ndim != 1 or len(one) < 2:
        raise AttimeError(
            f"rank_agreement needs two values or more for the same heads; got {tuple(one.shape)} and {tuple(two.shape)}."
        )
    ranks = torch.stack([_ranks(one), _ranks(two)])
    ranks = ranks - ranks.mean(1, keepdim=True)
    sizes = ranks.norm(dim=1)
    return float(ranks.prod(0).sum() / sizes.prod()) if sizes.min() > 0 else 0.0


def _ranks(values: Float[Tensor, " heads"]) -> Float[Tensor, " heads"]:
    below = (values[:, None] > values).sum(1).double()
    return below + ((values[:, None] == values).sum(1) - 1) / 2
