"""The span: a frozen rule of who may see whom, with `|` and `&`, and the block list that follows from it.

A rule answers three questions: about single pairs (`allows`), about rectangles of pairs (`tile`, three-valued: none,
some, every) and about the future of a key (`needed`). Positions are absolute token indices from 0.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, final

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from attime.attention.kernels.blocklist import FLEX_BLOCK, BlockList
from attime.errors import AttimeError

__all__ = ["Intersection", "Range", "Span", "Tile", "Union"]

BLOCK = 64  # tokens per block on a CPU: the working set of a block of queries stays in its cache
SLAB = 128  # query blocks classified at a time


class Range(NamedTuple):
    """Positions from `low` to `high`, both included; tensors that broadcast against those of the other range."""

    low: Tensor
    high: Tensor


class Tile(NamedTuple):
    """What a rule says about rectangles of pairs. Neither is wrong in the other's direction when the rule is unsure."""

    some: Tensor
    """False: certainly no pair is allowed."""
    every: Tensor
    """True: certainly all pairs are allowed."""


class Span(ABC):
    """Who may see whom. Subclasses are frozen dataclasses: equal rules are equal objects."""

    @property
    def heads(self) -> int | None:
        """How many heads the rule tells apart; None when it is the same for every head."""
        return None

    @abstractmethod
    def allows(self, query: Tensor, key: Tensor, head: Tensor | None = None) -> Tensor:
        """Whether the query at each position may see the key at each position; index tensors that broadcast.

        `head` (broadcasting likewise) is needed only by rules that differ between heads. What is returned broadcasts
        to the pairs (a rule that looks at keys only answers for keys); so do the answers of `tile` and `needed`.
        """

    @abstractmethod
    def tile(self, query: Range, key: Range, head: Tensor | None = None) -> Tile:
        """The same for rectangles: every query in a range against every key in a range."""

    @abstractmethod
    def needed(self, key: Tensor, now: Tensor | int, head: Tensor | None = None) -> Tensor:
        """Whether any query at a position >= `now` may still see the key: what a cache must keep.

        Never False for a key that is still seen. True a little longer than need be is allowed.
        """

    def on(self, device: torch.device) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
        """`allows` with its tables, where it has any, ready on a device: what FlexAttention can trace."""
        return self.allows

    def __or__(self, other: "Span") -> "Span":
        """Pairs that either rule allows."""
        return Union(self, other)

    def __and__(self, other: "Span") -> "Span":
        """Pairs that both rules allow."""
        return Intersection(self, other)

    def dense(self, queries: int, keys: int | None = None, *, offset: int | None = None) -> Tensor:
        """The boolean mask (queries keys), or (heads queries keys) for a rule that differs: for tests and drawings.

        By default the last query stands at the last key; `offset` is the position of the first query.
        """
        offset, keys = _place(queries, keys, offset)
        query, key = torch.arange(offset, offset + queries)[:, None], torch.arange(keys)
        mask = self.allows(query, key, self._head_axis(torch.device("cpu")))
        return mask.expand(*mask.shape[:-2], queries, keys)

    def blocks(
        self, queries: int, keys: int | None = None, *, offset: int | None = None, size: int = BLOCK
    ) -> BlockList:
        """Key blocks that each query block reads, without looking at single pairs. Kept for the next call.

        By default the last query stands at the last key; `offset` is the position of the first query.
        """
        return _listed(self, queries, *_place(queries, keys, offset)[::-1], size)

    def blocks_at(self, query: Tensor, key: Tensor, *, size: int = BLOCK) -> BlockList:
        """The same for queries and keys that stand at given positions, in rising order (a cache with gaps)."""

        def ranges(positions: Tensor) -> Range:
            last = torch.arange(size - 1, positions.numel() + size - 1, size).clamp(max=positions.numel() - 1)
            # 32 bits and some rows at a time: what is computed stays in the cache
            return Range(positions[::size].int(), positions[last].int())

        rows, columns, head = ranges(query), ranges(key), self._head_axis(query.device, torch.int32)
        some = torch.empty(self.heads or 1, rows.low.numel(), columns.low.numel(), dtype=torch.bool)
        every = torch.empty_like(some)
        for start in range(0, rows.low.numel(), SLAB):
            at = slice(start, start + SLAB)
            tile = self.tile(Range(rows.low[at, None], rows.high[at, None]), columns, head)
            some[:, at], every[:, at] = tile.some, tile.some & tile.every
        return BlockList(size=size, some=some, every=every, query=query, key=key, allows=self.allows, on=self.on)

    def block_mask(
        self,
        queries: int,
        keys: int | None = None,
        *,
        offset: int | None = None,
        size: int = FLEX_BLOCK,
        device: str = "cpu",
    ) -> BlockMask:
        """The list as FlexAttention takes it."""
        return self.blocks(queries, keys, offset=offset, size=size).block_mask(device)

    def _head_axis(self, device: torch.device, dtype: torch.dtype = torch.int64) -> Tensor | None:
        return None if self.heads is None else torch.arange(self.heads, device=device, dtype=dtype)[:, None, None]


@dataclass(frozen=True)
class _Pair(Span):
    left: Span
    right: Span

    def __post_init__(self) -> None:
        if None not in (self.left.heads, self.right.heads) and self.left.heads != self.right.heads:
            raise AttimeError(
                f"spans that differ between heads combine only for the same number of heads; "
                f"got {self.left.heads} and {self.right.heads}."
            )

    @property
    def heads(self) -> int | None:
        return self.left.heads or self.right.heads


@final
@dataclass(frozen=True)
class Union(_Pair):
    """Pairs that either rule allows: `left | right`."""

    def allows(self, query: Tensor, key: Tensor, head: Tensor | None = None) -> Tensor:
        return self.left.allows(query, key, head) | self.right.allows(query, key, head)

    def on(self, device: torch.device) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
        left, right = self.left.on(device), self.right.on(device)
        return lambda query, key, head: left(query, key, head) | right(query, key, head)

    def tile(self, query: Range, key: Range, head: Tensor | None = None) -> Tile:
        left, right = self.left.tile(query, key, head), self.right.tile(query, key, head)
        return Tile(left.some | right.some, left.every | right.every)

    def needed(self, key: Tensor, now: Tensor | int, head: Tensor | None = None) -> Tensor:
        return self.left.needed(key, now, head) | self.right.needed(key, now, head)


@final
@dataclass(frozen=True)
class Intersection(_Pair):
    """Pairs that both rules allow: `left & right`."""

    def allows(self, query: Tensor, key: Tensor, head: Tensor | None = None) -> Tensor:
        return self.left.allows(query, key, head) & self.right.allows(query, key, head)

    def on(self, device: torch.device) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
        left, right = self.left.on(device), self.right.on(device)
        return lambda query, key, head: left(query, key, head) & right(query, key, head)

    def tile(self, query: Range, key: Range, head: Tensor | None = None) -> Tile:
        left, right = self.left.tile(query, key, head), self.right.tile(query, key, head)
        return Tile(left.some & right.some, left.every & right.every)

    def needed(self, key: Tensor, now: Tensor | int, head: Tensor | None = None) -> Tensor:
        return self.left.needed(key, now, head) & self.right.needed(key, now, head)


def _place(queries: int, keys: int | None, offset: int | None) -> tuple[int, int]:
    if keys is None:
        keys = queries + (offset or 0)
    if offset is None:
        offset = keys - queries
    if queries < 1 or keys < 1 or offset < 0:
        raise AttimeError(f"a span needs queries >= 1, keys >= 1 and offset >= 0; got {queries}, {keys}, {offset}.")
    return offset, keys


@lru_cache(maxsize=64)
def _listed(span: Span, queries: int, keys: int, offset: int, size: int) -> BlockList:
    return span.blocks_at(torch.arange(offset, offset + queries), torch.arange(keys), size=size)
