r"""Temporal logits of another clip take the place of those of this one: it moves as that one did.

    S <- S + strength (S' - S)        S': scores that the same site had for the other clip

They come from `with watch(model, where="temporal", keep="scores") as seen:` around a pass over the other clip, noisy or
inverted: `{site: seen[site] for site in seen.sites}`. One tensor per site is used in every step, several one after the other.
To take the camera's motion alone, fill what moves by itself first: see `harmonic_fill`.

Source:  MotionMaster, arXiv 2404.15789, sec. 4.3 (camera motion transfer), one stored step (15 of 25) for the first 15 steps
         (`steps=range(15)`).
Names:   their temporal attention map is what stands here before the softmax, as in their code.
Differs: logits may be mixed (`strength`) as well as replaced. Common motion of several clips, found by clustering, is not here;
         motions are combined by combining the tensors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from attime.control.call import Call
from attime.control.chosen import check_source
from attime.control.contract import Control, Traits
from attime.errors import AttimeError
from attime.site import Site

__all__ = ["ScoreTransfer"]

Maps = Float[Tensor, "batch heads query key"]


@final
@dataclass(frozen=True, kw_only=True)
class ScoreTransfer(Control):
    """Scores are those of another clip, at the sites that it has any for (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(kinds=("temporal",))
    source: Mapping[Site, Sequence[Tensor]] = field(repr=False)
    """Per site its scores (batch heads query key), of all steps or of one; of one sample, or of as many as are painted."""

    def __post_init__(self) -> None:
        if not self.source or not 0 <= self.strength <= 1:
            raise AttimeError(
                f"ScoreTransfer needs the scores of a site or more and strength from 0 to 1; got {len(self.source)} sites and "
                f"strength={self.strength}."
            )

    def check(self, sites: Sequence[Site]) -> None:
        check_source(self, self.source, sites)

    def scores(self, scores: Maps, call: Call) -> Maps:
        if self.strength == 0 or call.site not in self.source:
            return scores
        given = self.source[call.site]
        if call.step >= len(given) > 1:
            return scores
        other = given[0 if len(given) == 1 else call.step].to(scores)
        if other.shape[1:] != scores.shape[1:] or len(scores) % len(other):
            raise AttimeError(
                f"ScoreTransfer has scores {tuple(other.shape)} for {call.site.name}, where {tuple(scores.shape)} are due: take "
                f"them from a clip with as many frames and places."
            )
        other = other.repeat(len(scores) // len(other), 1, 1, 1)
        return torch.where(scores == -torch.inf, scores, torch.lerp(scores, other, self.strength))

    @classmethod
    def examples(cls) -> Sequence["ScoreTransfer"]:
        site = Site(
            name="up_blocks.1.motion_modules.0.transformer_blocks.0.attn1",
            part="model",
            kind="temporal",
            layer=1,
            heads=2,
        )
        clip = [torch.linspace(-scale, scale, 2 * 2 * 4 * 4).reshape(2, 2, 4, 4).sin() for scale in (5.0, 9.0)]
        return [cls(source={site: clip[:1]}), cls(source={site: clip}, strength=0.5, steps=range(1))]
