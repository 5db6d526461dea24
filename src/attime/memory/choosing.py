"""How parked blocks are chosen, and what comes back of them."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Choosing", "Recalled"]


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
