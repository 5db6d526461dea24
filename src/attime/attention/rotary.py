r"""Rotary position embedding: channel pairs turn with the position, so that scores depend on distances only.

    (x_i, x_{i + d/2}) turned by t base^(-2 i / d)        at position t

Source:  RoFormer, arXiv 2104.09864, sec. 3.2; channels paired i with i + d/2 as in common decoders.
Differs: angles are reduced to one turn in float64, so that a position of a million is as exact as the first.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attime.errors import AttimeError

__all__ = ["check_rotary", "rotate", "turns"]

Turns = tuple[Float[Tensor, "rows 1 time half"], Float[Tensor, "rows 1 time half"]]


def turns(when: Int[Tensor, "rows time"], head_dim: int, *, base: float = 10000.0) -> Turns:
    """Cosines and sines for tokens at these positions; one row serves a whole batch, or each its own."""
    rates = base ** (torch.arange(0, head_dim, 2, dtype=torch.float64, device=when.device) / -head_dim)
    angles = (when[:, None, :, None] * rates).remainder(2 * math.pi).float()
    return angles.cos(), angles.sin()


def rotate(x: Float[Tensor, "batch heads time head_dim"], by: Turns) -> Float[Tensor, "batch heads time head_dim"]:
    """Turn queries or keys; in float32 at least, returned in their own dtype."""
    cos, sin = by
    if x.dtype == torch.float64:
        cos, sin = cos.double(), sin.double()
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)


def check_rotary(head_dim: int, *, who: str) -> None:
    """An error when channels cannot be paired."""
    if head_dim % 2:
        raise AttimeError(f"{who} with rope=True needs an even number of channels per head; got {head_dim}.")
