"""What comes back of parked blocks for the queries of a chunk: one set of blocks for all of them, or a set for each."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attime.memory.rotary import Turn

__all__ = ["OneForAll", "OneForEach", "Recalled"]

Grouped = Float[Tensor, "lanes groups asked dim"]
Weights = Float[Tensor, "lanes groups asked entries"]
Pairs = Float[Tensor, "pairs rows _"]


@dataclass(frozen=True)
class Recalled(ABC):
    """Blocks brought back for some of a chunk's queries; a pair is a block of a set of a lane."""

    queries: slice
    keys: Float[Tensor, "blocks size dim"]
    values: Float[Tensor, "blocks size value_dim"]
    first: Int[Tensor, "lanes sets chosen"]
    """Number of each block's first token."""
    back: Turn | None
    """Turns queries (lanes, sets, 1, rows, dim) back, for every chosen block, by as much as it is read as later than it was.

    Instead of keys, which are many, queries are turned, the other way. None: blocks are read where they stood.
    """
    log_mass: Float[Tensor, "lanes sets chosen size"] | None = None
    """Log of how many tokens each entry stands for; None: one each."""
    when: Int[Tensor, "lanes sets chosen size"] | None = None
    """Number of each entry's token; None: a block's follow its first."""

    @property
    def size(self) -> int:
        """Entries of a block."""
        return self.keys.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes held beside keys and values."""
        known = (self.first, self.back, self.log_mass, self.when)
        return sum(each.nbytes for each in known if each is not None)

    @abstractmethod
    def logits(self, q: Grouped) -> Weights:
        """Products of these queries and the keys."""

    @abstractmethod
    def mixed(self, weights: Weights) -> Grouped:
        """The weighted sum of the values."""

    @abstractmethod
    def gathered(self) -> tuple[Tensor, Tensor]:
        """Keys and values (lanes, sets, chosen, size, dim) of every set."""

    def _pairs(self, q: Float[Tensor, "lanes sets 1 rows dim"]) -> Pairs:
        """Every pair's queries, as its block sees them."""
        turned = q if self.back is None else self.back(q)
        return turned.expand(-1, -1, self.first.shape[2], -1, -1).flatten(0, 2)


class OneForAll(Recalled):
    """One set: there are as many blocks as pairs, in their order."""

    def logits(self, q: Grouped) -> Weights:
        lanes, chosen = self.first.shape[0], self.first.shape[2]
        flat = q.flatten(1, 2)
        if self.back is None:
            made = torch.bmm(flat, self.keys.view(lanes, -1, self.keys.shape[2]).mT)
        else:
            made = torch.bmm(self._pairs(flat[:, None, None]), self.keys.mT)
            made = made.view(lanes, chosen, -1, self.size).transpose(1, 2)
        return made.reshape(*q.shape[:3], -1)

    def mixed(self, weights: Weights) -> Grouped:
        values = self.values.view(len(weights), -1, self.values.shape[2])
        return torch.bmm(weights.flatten(1, 2), values).view(*weights.shape[:3], -1)

    def gathered(self) -> tuple[Tensor, Tensor]:
        return self.keys.unflatten(0, self.first.shape), self.values.unflatten(0, self.first.shape)


@dataclass(frozen=True, kw_only=True)
class OneForEach(Recalled):
    """A set for each query; those that want the same block are answered together, so it is read once."""

    which: Int[Tensor, "lanes sets chosen"]
    """Each pair's block."""

    def logits(self, q: Grouped) -> Weights:
        lanes, groups, asked, _ = q.shape
        chosen = self.first.shape[2]
        made = self._products(self._pairs(q.transpose(1, 2)[:, :, None]), self.keys.mT)
        return made.view(lanes, asked, chosen, groups, -1).permute(0, 3, 1, 2, 4).flatten(3)

    def mixed(self, weights: Weights) -> Grouped:
        lanes, groups, asked = weights.shape[:3]
        rows = weights.unflatten(3, (-1, self.size)).permute(0, 2, 3, 1, 4).flatten(0, 2)
        made = self._products(rows, self.values)
        return made.view(lanes, asked, -1, groups, made.shape[2]).sum(2).transpose(1, 2)

    def gathered(self) -> tuple[Tensor, Tensor]:
        keys, values = (each[self.which.flatten()] for each in (self.keys, self.values))
        return keys.unflatten(0, self.which.shape), values.unflatten(0, self.which.shape)

    def _products(self, pairs: Pairs, blocks: Tensor) -> Pairs:
        """Every pair's rows times its block."""
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
        flat = self.which.flatten()
        order = flat.argsort()
        return order, order.argsort(), flat.bincount(minlength=len(self.keys)).tolist()
