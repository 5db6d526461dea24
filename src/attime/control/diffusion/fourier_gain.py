r"""Waves over the frames of a temporal map are made stronger: more motion, as far as the map holds any.

    A_f = FFT over keys        A <- norm(relu(IFFT(A_f for f < cutoff, beta_c A_f for f >= cutoff)))
    beta_c = max(beta, sqrt((E_1 - E_l) / E_h))        E = mean over queries of sum_keys A^2

E_1 is the energy that the model's own map has, E_l and E_h those of the slow and fast waves of what other controls have made of
it: what they took is given back. With cutoff 1 only the mean stays: norm(relu(1/F + beta_c (A - 1/F))).

Source:  BroadWay, arXiv 2410.06241, sec. 3.3 (Fourier-based motion enhancement).
Names:   our `strength` is beta - 1: beta is 1.5 for AnimateDiff and 10 for VideoCrafter2 in the paper, in the first fifth of
         the steps (`steps=range(5)` of 25); our `cutoff` in cycles per clip is F / 2 - tau: 16 / 2 - 7.
Differs: energies are means over all of a call, both halves of guidance included; keys without any attention stay so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from attime.control.call import Call
from attime.control.contract import Control, Traits
from attime.control.diffusion.self_guidance import LATE
from attime.errors import AttimeError
from attime.site import Where

__all__ = ["FourierGain"]

Maps = Float[Tensor, "batch heads query key"]


@final
@dataclass(frozen=True, kw_only=True)
class FourierGain(Control):
    """More energy in the fast waves of temporal maps (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(kinds=("temporal",))
    where: ClassVar[Where] = LATE
    strength: float = 0.5
    cutoff: int = 1
    """The slowest wave that is made stronger, in cycles per clip."""
    floor: bool = True
    """Never less energy than the model's own map has."""

    def __post_init__(self) -> None:
        if self.strength < -1 or self.cutoff < 1:
            raise AttimeError(
                f"FourierGain needs strength >= -1 (beta - 1) and cutoff >= 1 (cycles per clip); got "
                f"strength={self.strength}, cutoff={self.cutoff}."
            )

    def maps(self, maps: Maps, call: Call) -> Maps:
        if self.strength == 0:
            return maps
        made = self.amplified(maps, call.maps).clamp(min=0) * (maps > 0)
        return made / made.sum(-1, keepdim=True).clamp(min=torch.finfo(made.dtype).tiny)

    def amplified(self, maps: Maps, own: Maps) -> Maps:
        """The map with stronger waves, before it is clipped; `own` is the model's, whose energy is the least."""
        frames = maps.shape[-1]
        waves = torch.fft.rfft(maps, dim=-1)
        fast = torch.arange(waves.shape[-1], device=maps.device) >= self.cutoff
        slow_part = torch.fft.irfft(waves * ~fast, n=frames, dim=-1)
        fast_part = torch.fft.irfft(waves * fast, n=frames, dim=-1)
        gain = torch.as_tensor(1 + self.strength, dtype=maps.dtype, device=maps.device)
        if self.floor:
            spare = energy(own) - energy(slow_part)
            gain = torch.maximum(gain, (spare / energy(fast_part).clamp(min=1e-12)).clamp(min=0).sqrt())
        return slow_part + gain * fast_part

    @classmethod
    def examples(cls) -> Sequence["FourierGain"]:
        return [cls(), cls(strength=9.0, cutoff=2, floor=False, steps=range(1))]


def energy(maps: Maps) -> Float[Tensor, ""]:
    """Mean over places, heads and queries of the sum of squares over keys."""
    return maps.square().sum(-1).mean()
