r"""Sinusoidal positions: pairs of channels are points on circles that turn at speeds from 1 to 1 / base.

    p(t)_{2i} = sin(t base^(-2i/d))    p(t)_{2i+1} = cos(t base^(-2i/d))    p(t) . p(u) = sum_i cos((t - u) base^(-2i/d))

Source:  Attention Is All You Need, arXiv 1706.03762, sec. 3.5.
Differs: places may be seconds; angles are reduced to one turn in float64, so that late places are as exact as early ones.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from attime.errors import AttimeError
from attime.tokens.contract import Positions, Traits

__all__ = ["Sinusoidal"]


@final
@dataclass(frozen=True)
class Sinusoidal(Positions):
    """Sines and cosines of the place, `dim` numbers (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(relative=True)
    dim: int
    base: float = field(default=10000.0, kw_only=True)

    def __post_init__(self) -> None:
        if self.dim < 2 or self.dim % 2 or self.base <= 1:
            raise AttimeError(f"Sinusoidal needs an even dim >= 2 and base > 1; got dim={self.dim}, base={self.base}.")

    def encode(self, places: Tensor) -> Float[Tensor, "*axes dim"]:
        rates = self.base ** (-torch.arange(0, self.dim, 2, device=places.device, dtype=torch.float64) / self.dim)
        angles = (places[..., None].double() * rates).remainder(2 * math.pi)
        codes = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)
        return codes if places.dtype == torch.float64 else codes.float()

    @classmethod
    def examples(cls) -> Sequence["Sinusoidal"]:
        return [cls(8), cls(12, base=100.0)]
