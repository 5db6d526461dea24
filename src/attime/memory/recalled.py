"""What comes back of parked blocks: every block once, and which of them each query attends to."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from attime.memory.bank import Rotate

__all__ = ["Recalled"]

Grouped = Float[Tensor, "lanes groups asked dim"]
Pairs = Float[Tensor, "pairs rows _"]


@dataclass(frozen=True)
class Recalled:
    """Blocks brought back for some of a chunk's queries: a set for each of them, or one set for all.

    A pair is a block of a set of a lane; queries that want the same block are answered together, so it is read once.
    """

    queries: slice
    keys: Float[Tensor, "blocks size dim"]
    values: Float[Tensor, "blocks size value_dim"]
    which: Int[Tensor, "lanes sets chosen"] | None
    """Each pair's block; None: there are as many blocks as pairs, in their order."""
    first: Int[Tensor, "lanes sets chosen"]
    """Number of each block's first token."""
    shift: Float[Tensor, "lanes sets chosen"] | None
    """By how many positions each block is read as later than it was."""
    log_mass: Float[Tensor, "lanes sets chosen size"] | None = None
    """Log of how many tokens each entry stands for; None: one each."""

    def logits(self, q: Grouped, rotate: "Rotate | None") -> Float[Tensor, "lanes groups asked entries"]:
        """Products of queries and keys; instead of keys, which are many, queries are turned, the other way."""
        lanes, groups, asked, dim = q.shape
        sets, chosen = self.first.shape[1:]
        pairs = q.transpose(1, 2).reshape(lanes, sets, 1, -1, dim).expand(-1, -1, chosen, -1, -1).flatten(0, 2)
        if self.shift is not None:
            assert rotate is not None
            pairs = rotate(pairs, -self.shift.view(-1, 1))
        made = self._products(pairs, self.keys.mT).view(lanes, sets, chosen, -1, self.keys.shape[1])
        return made.transpose(2, 3).reshape(lanes, asked, groups, -1).transpose(1, 2)

    def mixed(self, weights: Float[Tensor, "lanes groups asked entries"]) -> Grouped:
        """The weighted sum of the values."""
        lanes, groups, asked = weights.shape[:3]
        sets, chosen = self.first.shape[1:]
        rows = weights.transpose(1, 2).reshape(lanes, sets, -1, chosen, self.values.shape[1])
        made = self._products(rows.transpose(2, 3).flatten(0, 2), self.values)
        return made.view(lanes, sets, chosen, -1, made.shape[2]).sum(2).view(lanes, asked, groups, -1).transpose(1, 2)

    def gathered(self) -> tuple[Tensor, Tensor]:
        """Keys and values (lanes, sets, chosen, size, dim) of every set."""
        keys, values = (each if self.which is None else each[self.which.flatten()] for each in (self.keys, self.values))
        return keys.unflatten(0, self.first.shape), values.unflatten(0, self.first.shape)

    def _products(self, pairs: Pairs, blocks: Tensor) -> Pairs:
        """Every pair's rows times its block."""
        if self.which is None:
            return torch.bmm(pairs, blocks)
        if pairs.device.type != "cpu":  # one large call beats many small ones
            return torch.bmm(pairs, blocks[self.which.flatten()])
        order, back, counts = self._by_block
        rows = pairs.shape[1]
        parts = pairs[order].flatten(0, 1).split([count * rows for count in counts])
        made = torch.cat([part @ block for part, block in zip(parts, blocks, strict=True)])
        return made.unflatten(0, (-1, rows))[back]

    @cached_property
    def _by_block(self) -> tuple[Tensor, Tensor, list[int]]:
        """The pairs in the order of their blocks, their places in it, and how many each block has."""
        assert self.which is not None
        flat = self.which.flatten()
        order = flat.argsort()
        return order, order.argsort(), flat.bincount(minlength=len(self.keys)).tolist()
