r"""Frames look at frames near them: a Gaussian of the distance in time is added to temporal logits, scaled by each row's maximum.

    A = softmax(S + s max(S) R)        R_ij = exp(-(i - j)^2 / (2 sigma^2))

Source:  VSTAR, arXiv 2403.13501, sec. 3.3 (temporal attention regularisation).
Names:   our `strength` is the weight s of the regularisation, `width` is sigma in frames.
Differs: a row whose maximum is negative gets no prior (there the product would push near frames away); the prior is the
         same at all resolutions: choose sites by `where`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from attime.control.call import Call
from attime.control.contract import Control, Traits
from attime.errors import AttimeError

__all__ = ["TemporalPrior"]

Maps = Float[Tensor, "batch heads query key"]


@final
@dataclass(frozen=True, kw_only=True)
class TemporalPrior(Control):
    """A pull towards near frames in temporal attention: longer clips than in training change more (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(kinds=("temporal",))
    width: float = 1.0

    def __post_init__(self) -> None:
        if self.width <= 0 or self.strength < 0:
            raise AttimeError(
                f"TemporalPrior needs width > 0 (frames) and strength >= 0; got width={self.width}, strength={self.strength}."
            )

    def scores(self, scores: Maps, call: Call) -> Maps:
        prior = self.prior(scores.shape[-1]).to(scores)
        most = scores.amax(-1, keepdim=True).clamp(min=0)
        return scores + self.strength * most * prior

    def prior(self, frames: int) -> Float[Tensor, "frames frames"]:
        """R: 1 on the diagonal, less the further two frames are apart."""
        place = torch.arange(frames, dtype=torch.float64)
        return torch.exp(-((place[:, None] - place) ** 2) / (2 * self.width**2))

    @classmethod
    def examples(cls) -> Sequence["TemporalPrior"]:
        return [cls(), cls(strength=0.5, width=4.0, steps=range(1))]
