"""How parked blocks are chosen, and what comes back of them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attime.memory.index import Index

__all__ = ["Choosing", "Recalled", "choose"]


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


@dataclass(frozen=True)
class Recalled:
    """Blocks brought back for some of a chunk's queries: a set for each of them, or one set for all."""

    queries: slice
    keys: Float[Tensor, "lanes sets blocks size head_dim"]
    values: Float[Tensor, "lanes sets blocks size value_dim"]
    first: Int[Tensor, "lanes sets blocks"]
    """Number of each block's first token."""
    shift: Float[Tensor, "lanes sets blocks"] | None
    """By how many positions each block is read as later than it was."""


def choose(
    how: Choosing,
    index: Index,
    guide: Float[Tensor, "lanes time head_dim"],
    row: Int[Tensor, " lanes"],
    most: int,
) -> Int[Tensor, "lanes time chosen"]:
    """The best blocks of each guide, in order of time; `row` is the one that a lane belongs to."""
    shared = how.heads == "shared"
    if not shared and not how.cosine:
        return index.nearest(guide, most).sort(dim=2).values
    keys = index.now
    rates = guide @ keys.transpose(1, 2)
    rates = _over_rows(rates, row) if shared else rates
    if how.cosine:
        square = keys.square().sum(2)[:, None]
        square = _over_rows(square, row) if shared else square
        rates = rates * square.clamp(min=torch.finfo(rates.dtype).tiny).rsqrt()
    return rates.topk(most, dim=2).indices.sort(dim=2).values


def _over_rows(rates: Tensor, row: Int[Tensor, " lanes"]) -> Tensor:
    """The sum over all lanes of a lane's row."""
    total = rates.new_zeros(int(row.max()) + 1, *rates.shape[1:]).index_add(0, row, rates)
    return total[row]
