"""How parked blocks are chosen."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attime.memory.index import Index

__all__ = ["Choosing", "choose"]


@dataclass(frozen=True, kw_only=True)
class Choosing:
    """How blocks are indexed and which of them come back."""

    blocks: int
    """Blocks that a query brings back."""
    by: str
    """"token": each token chooses for itself; "question": nobody does until a question is asked."""
    heads: str
    """"own": each key-value head chooses; "shared": one choice by all heads of a row, their keys joined."""
    cosine: bool
    """By angle and not by product."""
    unrotated: bool
    """Keys and queries are compared without their rotary positions."""
    contiguous: bool
    """What comes back is read as if it stood right before the window, and the sinks before it."""


def choose(
    how: Choosing,
    index: Index,
    guide: Float[Tensor, "lanes time head_dim"],
    row: Int[Tensor, " lanes"] | int,
    most: int,
) -> Int[Tensor, "lanes time chosen"]:
    """The best blocks of each guide, in order of time; `row` is the one that a lane belongs to, or so many lanes are one."""
    shared = how.heads == "shared"
    if not shared and not how.cosine:
        return index.nearest(guide, most).sort(dim=2).values
    keys = index.now
    rates = torch.bmm(guide, keys.mT)
    rates = _of_rows(rates, row) if shared else rates
    if how.cosine:
        square = keys.square().sum(2)[:, None]
        square = _of_rows(square, row) if shared else square
        rates = rates * square.clamp(min=torch.finfo(rates.dtype).tiny).rsqrt()
    found = rates.topk(most, dim=2, sorted=False).indices.sort(dim=2).values
    if not shared:
        return found
    if isinstance(row, int):
        return found[:, None].expand(-1, row, -1, -1).flatten(0, 1)
    return found[row]


def _of_rows(rates: Tensor, row: Int[Tensor, " lanes"] | int) -> Tensor:
    """The sum over all lanes of a row."""
    if isinstance(row, int):
        return rates.view(-1, row, *rates.shape[1:]).sum(1)
    return rates.new_zeros(int(row.max()) + 1, *rates.shape[1:]).index_add(0, row, rates)
