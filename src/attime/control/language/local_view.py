r"""A second look at what the question is about, and an answer from both looks.

    m_j = mean over heads and words of A_ij relu(dL / dA_ij)        relevance of visual token j; L: how well picture and words match
    local view: the rho = min(1 - match / 2, 1 - 1e-5) of the picture with the greatest m; the rest is not seen
    l = l_global + a l_local        l_w = -inf  where  l_global,w < max l_global + log b

Source:  AGLA, arXiv 2406.12718, sec. 3 (image-prompt matching by GradCAM, masking, assembled logits, plausibility).
Names:   our `weight` is a, `least` is b. At sites: the relevance (maps and gradients by `watch(..., detach=False)`) and the
         local view (`LocalView`: `with steer(model, LocalView(keep=marks)): local = model(**inputs).logits`). With logits,
         where no site is: the assembly (`assembled`), once for every token that is written, each view with its own cache.
Cost:    two passes per token.
Differs: the local view hides keys in the language model, where the paper blackens pixels. A visual token always sees itself.
         The paper takes relevance from a matcher of its own (BLIP, text layer 6), blurred; any maps with gradients do.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attime.control.call import Call
from attime.control.contract import Control, Traits
from attime.errors import AttimeError

__all__ = ["LocalView", "assembled", "most_relevant", "relevance"]

Maps = Float[Tensor, "batch heads query key"]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class LocalView(Control):
    """Hides visual tokens that do not matter, all of them at strength 1 and a share below (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(kinds=("self",), visual=True)
    keep: Bool[Tensor, "batch visual"]
    """Which visual tokens stay, in the order in which the model reads them."""

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise AttimeError(f"LocalView needs strength from 0 to 1; got {self.strength}.")

    def scores(self, scores: Maps, call: Call) -> Maps:
        if self.strength == 0:
            return scores
        visual = call.visual
        assert visual is not None
        rows = len(self.keep)
        if rows not in (1, len(visual)) or bool((visual.sum(1) != self.keep.shape[1]).any()):
            raise AttimeError(
                f"LocalView needs marks (batch visual) for {len(visual)} rows with {visual.sum(1).tolist()} visual tokens; got "
                f"{tuple(self.keep.shape)}."
            )
        keep = self.keep.to(visual.device).expand(len(visual), -1)
        hidden = torch.zeros_like(visual).masked_scatter(visual, ~keep)[:, None, None]
        queries, keys = scores.shape[-2:]
        own = torch.eye(keys, dtype=torch.bool, device=scores.device)[-queries:]
        less = math.log(1 - self.strength) if self.strength < 1 else -math.inf
        return torch.where(hidden & ~own, scores + less, scores)

    @classmethod
    def examples(cls) -> Sequence["LocalView"]:
        place = torch.arange(32).reshape(2, 16)
        return [cls(keep=place % 3 == 0), cls(strength=0.5, keep=place[:1] < 4)]


def relevance(maps: Maps, gradients: Maps) -> Float[Tensor, "batch key"]:
    """GradCAM: how much each key helps, mean over heads and queries; give the queries of the question's words alone."""
    return (maps * gradients.clamp(min=0)).mean((1, 2))


def most_relevant(
    scores: Float[Tensor, "batch visual"], *, match: Float[Tensor, " batch"] | float = 1.0
) -> Bool[Tensor, "batch visual"]:
    """Marks of the tokens that stay: the better picture and question match (0 to 1), the fewer."""
    share = (1 - torch.as_tensor(match, dtype=torch.float64, device=scores.device) / 2).clamp(max=1 - 1e-5)
    count = (share * scores.shape[1]).long().clamp(min=1).expand(len(scores))
    rank = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return rank < count[:, None]


def assembled(
    whole: Float[Tensor, "*batch vocabulary"],
    local: Float[Tensor, "*batch vocabulary"],
    *,
    weight: float = 2.0,
    least: float = 0.5,
) -> Float[Tensor, "*batch vocabulary"]:
    """Logits of both views together, over the words that the whole picture makes likely enough; weight 0 and least 0: the whole's."""
    if weight < 0 or not 0 <= least <= 1:
        raise AttimeError(f"assembled needs weight >= 0 and least from 0 to 1; got weight={weight}, least={least}.")
    unlikely = whole < whole.amax(-1, keepdim=True) + (math.log(least) if least else -math.inf)
    return (whole + weight * local).masked_fill(unlikely, -torch.inf)
