"""Spans on a line of tokens: causal, window, sinks, dilated, strided shards, documents, prefix."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import final

import torch
from torch import Tensor

from attime.attention.spans.span import Range, Span, Tile
from attime.errors import AttimeError

__all__ = ["Causal", "Dilated", "Documents", "Prefix", "Sinks", "Strided", "Window"]


@final
@dataclass(frozen=True)
class Causal(Span):
    """Itself and everything before."""

    def allows(self, query: Tensor, key: Tensor, head: Tensor | None = None) -> Tensor:
        return key <= query

    def tile(self, query: Range, key: Range, head: Tensor | None = None) -> Tile:
        return Tile(key.low <= query.high, key.high <= query.low)

    def needed(self, key: Tensor, now: Tensor | int, head: Tensor | None = None) -> Tensor:
        return torch.ones_like(key, dtype=torch.bool)


@final
@dataclass(frozen=True)
class Dilated(Span):
    """Itself and the tokens 1, 2, ... `size` - 1 steps of `step` tokens before it; after it too if not `causal`."""

    size: int
    step: int = 1
    causal: bool = True

    def __post_init__(self) -> None:
        if self.size < 1 or self.step < 1:
            raise AttimeError(f"{type(self).__name__} needs size >= 1 and step >= 1; got {self.size}, {self.step}.")

    @property
    def _reach(self) -> int:
        return (self.size - 1) * self.step

    def allows(self, query: Tensor, key: Tensor, head: Tensor | None = None) -> Tensor:
        back = query - key
        inside = (back <= self._reach) & (back >= (0 if self.causal else -self._reach))
        return inside if self.step == 1 else inside & (back % self.step == 0)

    def tile(self, query: Range, key: Range, head: Tensor | None = None) -> Tile:
        ahead = 0 if self.causal else self._reach
        nearest, farthest = query.low - key.high, query.high - key.low
        some = (nearest <= self._reach) & (farthest >= -ahead)
        every = (farthest <= self._reach) & (nearest >= -ahead)
        if self.step > 1:  # is a multiple of step between the nearest and the farthest difference?
            some = some & (farthest // self.step * self.step >= nearest)
            every = every & (nearest == farthest)  # and then `some` says the rest
        return Tile(some, some & every)

    def needed(self, key: Tensor, now: Tensor | int, head: Tensor | None = None) -> Tensor:
        wait = (key - now) % self.step  # the next query that stands a multiple of step away
        return now + wait - key <= self._reach


def Window(size: int, *, causal: bool = True) -> Span:  # noqa: N802
    """Itself and the `size` - 1 tokens before it; as many after it too if not `causal`."""
    return Dilated(size, 1, causal)


@final
@dataclass(frozen=True)
class Sinks(Span):
    """The first `count` tokens, for every query; `& Causal()` where that matters."""

    count: int

    def allows(self, query: Tensor, key: Tensor, head: Tensor | None = None) -> Tensor:
        return key < self.count

    def tile(self, query: Range, key: Range, head: Tensor | None = None) -> Tile:
        return Tile(key.low < self.count, key.high < self.count)

    def needed(self, key: Tensor, now: Tensor | int, head: Tensor | None = None) -> Tensor:
        return key < self.count


@final
@dataclass(frozen=True)
class Prefix(Span):
    """The first `count` tokens among themselves, in both directions; `| Causal()` makes a prefix language model."""

    count: int

    def allows(self, query: Tensor, key: Tensor, head: Tensor | None = None) -> Tensor:
        return (key < self.count) & (query < self.count)

    def tile(self, query: Range, key: Range, head: Tensor | None = None) -> Tile:
        return Tile(
            (key.low < self.count) & (query.low < self.count), (key.high < self.count) & (query.high < self.count)
        )

    def needed(self, key: Tensor, now: Tensor | int, head: Tensor | None = None) -> Tensor:
        return (key < self.count) & (torch.as_tensor(now) < self.count)


@final
@dataclass(frozen=True)
class Documents(Span):
    """Tokens of the same document, for documents of these lengths laid end to end; `& Causal()` for a decoder."""

    lengths: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.lengths or min(self.lengths) < 1:
            raise AttimeError(f"Documents needs lengths >= 1; got {self.lengths}.")

    def _number(self, position: Tensor) -> Tensor:
        numbers = _numbers(self.lengths, position.device)
        return numbers[position.clamp(max=numbers.numel() - 1)]

    def allows(self, query: Tensor, key: Tensor, head: Tensor | None = None) -> Tensor:
        return self._number(query) == self._number(key)

    def on(self, device: torch.device) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
        numbers = _numbers(self.lengths, device)
        last = numbers.numel() - 1
        return lambda query, key, head: numbers[query.clamp(max=last)] == numbers[key.clamp(max=last)]

    def tile(self, query: Range, key: Range, head: Tensor | None = None) -> Tile:
        query, key = (Range(self._number(each.low), self._number(each.high)) for each in (query, key))
        some = (query.low <= key.high) & (key.low <= query.high)
        return Tile(some, some & (query.low == key.high) & (key.low == query.high))

    def needed(self, key: Tensor, now: Tensor | int, head: Tensor | None = None) -> Tensor:
        return self._number(key) >= self._number(torch.as_tensor(now, device=key.device))


@final
@dataclass(frozen=True)
class Strided(Span):
    r"""Context shards: a head sees the last `local` blocks and every `stride`-th block, shifted from head to head.

        (i - j) < local   or   (j + h step + shift) mod stride = 0        blocks j <= i, step = max(1, stride // heads)

    Causal within blocks too. Columns are absolute, so what a head does not see once, it never sees again. Source:
    S2-Attention, arXiv 2407.17678, sec. 3.
    """

    count: int
    """Heads."""
    stride: int = 8
    local: int = 16
    block: int = 64
    shift: int = 0

    def __post_init__(self) -> None:
        if min(self.count, self.stride, self.local, self.block) < 1:
            raise AttimeError(f"Strided needs count, stride, local and block >= 1; got {self}.")

    @property
    def heads(self) -> int:
        return self.count

    def _column(self, block: Tensor, head: Tensor | None) -> Tensor:
        return self._ahead(block, head) == 0

    def _ahead(self, block: Tensor, head: Tensor | None) -> Tensor:
        """How many blocks on from a block the next column of the head stands."""
        if head is None:
            raise AttimeError("Strided differs between heads: pass head=.")
        return (-(block + head * max(1, self.stride // self.count) + self.shift)) % self.stride

    def allows(self, query: Tensor, key: Tensor, head: Tensor | None = None) -> Tensor:
        near = query // self.block - key // self.block < self.local
        return (key <= query) & (near | self._column(key // self.block, head))

    def tile(self, query: Range, key: Range, head: Tensor | None = None) -> Tile:
        query_low, query_high = query.low // self.block, query.high // self.block
        key_low, key_high = key.low // self.block, key.high // self.block
        ahead = self._ahead(key_low, head)
        some = (query_low - key_high < self.local) | (ahead <= key_high - key_low)
        columns = (ahead == 0) & ((key_low == key_high) | (self.stride == 1))
        every = (query_high - key_low < self.local) | columns
        return Tile((key.low <= query.high) & some, (key.high <= query.low) & every)

    def needed(self, key: Tensor, now: Tensor | int, head: Tensor | None = None) -> Tensor:
        return (now // self.block - key // self.block < self.local) | self._column(key // self.block, head)


@lru_cache(maxsize=16)
def _numbers(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    each = torch.tensor(lengths, device=device)
    return torch.arange(len(lengths), device=device).repeat_interleave(each)
