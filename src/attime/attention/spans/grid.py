"""Spans on frames and grids, whose tokens are laid out row by row: frame-causal, neighbourhood in 1, 2 and 3-D, radial."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import final

import torch
from torch import Tensor

from attime.attention.spans.line import Dilated
from attime.attention.spans.span import Range, Span, Tile
from attime.errors import AttimeError

__all__ = ["FrameCausal", "Neighbourhood", "Radial"]


@final
@dataclass(frozen=True)
class FrameCausal(Span):
    """Every token of its own frame and of all frames before, for frames of `tokens` tokens."""

    tokens: int

    def allows(self, query: Tensor, key: Tensor, head: Tensor | None = None) -> Tensor:
        return key // self.tokens <= query // self.tokens

    def tile(self, query: Range, key: Range, head: Tensor | None = None) -> Tile:
        query, key = (Range(each.low // self.tokens, each.high // self.tokens) for each in (query, key))
        return Tile(key.low <= query.high, key.high <= query.low)

    def needed(self, key: Tensor, now: Tensor | int, head: Tensor | None = None) -> Tensor:
        return torch.ones_like(key, dtype=torch.bool)


@final
@dataclass(frozen=True)
class Neighbourhood(Span):
    """The `kernel` nearest positions on every axis of a grid of `sizes`, e.g. (time, height, width).

    At a border the neighbourhood shifts inward and keeps its size. With `dilation` d an axis is d interleaved grids.
    On a `causal` axis it is the position itself and the kernel - 1 before it, fewer at the start. Source: NATTEN,
    arXiv 2403.04690, sec. 2.
    """

    sizes: tuple[int, ...]
    kernel: tuple[int, ...]
    dilation: tuple[int, ...] | None = None
    causal: tuple[bool, ...] | None = None

    def __post_init__(self) -> None:
        given = [each for each in (self.kernel, self.dilation, self.causal) if each is not None]
        if not self.sizes or any(len(each) != len(self.sizes) for each in given):
            raise AttimeError(
                f"Neighbourhood needs one entry per axis of sizes={self.sizes} in every option; got {self}."
            )
        for size, kernel, dilation, causal in self._axes:
            if kernel < 1 or dilation < 1 or (not causal and kernel * dilation > size):
                raise AttimeError(
                    f"Neighbourhood needs kernel, dilation >= 1 and kernel * dilation <= size on every axis that is not "
                    f"causal; got {self}."
                )

    @property
    def _axes(self) -> list[tuple[int, int, int, bool]]:
        ones, never = (1,) * len(self.sizes), (False,) * len(self.sizes)
        return list(zip(self.sizes, self.kernel, self.dilation or ones, self.causal or never, strict=True))

    @property
    def _layout(self) -> list[tuple[int, int, tuple[int, int, int, bool]]]:
        """Per axis: its length and its step in tokens, and its rule. The outermost is open (0): streams do not end."""
        steps = [math.prod(self.sizes[axis:]) for axis in range(len(self.sizes) + 1)]
        return list(zip([0, *steps[1:-1]], steps[1:], self._axes, strict=True))

    def allows(self, query: Tensor, key: Tensor, head: Tensor | None = None) -> Tensor:
        seen = torch.ones((), dtype=torch.bool, device=key.device)
        for whole, each, axis in self._layout:
            seen = seen & _near(_along(query, whole, each), _along(key, whole, each), *axis)
        return seen

    def tile(self, query: Range, key: Range, head: Tensor | None = None) -> Tile:
        some, every = (torch.ones((), dtype=torch.bool, device=key.low.device) for _ in range(2))
        for whole, each, axis in self._layout:
            q, k = (_interval(positions, whole, each, axis[0]) for positions in (query, key))
            tile = _near_tile(q, k, *axis)
            some, every = some & tile.some, every & tile.every
        return Tile(some, every)

    def needed(self, key: Tensor, now: Tensor | int, head: Tensor | None = None) -> Tensor:
        _, frame, (size, kernel, dilation, causal) = self._layout[0]
        key, now = key // frame, now // frame
        if causal:
            return Dilated(kernel, dilation).needed(key, now)
        first = torch.as_tensor(now - dilation * (kernel // 2), device=key.device)
        return key >= first.clamp(max=size - dilation * kernel)


@final
@dataclass(frozen=True)
class Radial(Span):
    r"""Frames look at frames through a band that narrows, and then thins out, with their distance in time.

        |a - b| <= max(block, decay L / 2^g),  g = bits of D = |i - j|,  L = 2^(bits of tokens)
        D mod floor(block / (L / 2^g)) = 0     where L / 2^g < block

    for tokens a, b within frames i, j. A frame sees itself whole, and the next one within `beside` tokens (whole when
    None). `| Sinks(tokens)` adds the first frame. Source: Radial Attention, arXiv 2506.19852, and its public code.
    """

    frames: int
    tokens: int
    decay: float = 1.0
    block: int = 128
    beside: int | None = None

    def __post_init__(self) -> None:
        if min(self.frames, self.tokens, self.block) < 1 or self.decay <= 0:
            raise AttimeError(f"Radial needs frames, tokens, block >= 1 and decay > 0; got {self}.")

    def width(self, distance: int) -> int:
        """Half the band between frames `distance` apart, in tokens; -1 where the pair of frames is dropped."""
        if distance <= 0:
            return self.tokens
        left = 2.0 ** (self.tokens.bit_length() - distance.bit_length())
        if left < self.block and distance % int(self.block / left):
            return -1
        if distance == 1:
            return self.tokens if self.beside is None else self.beside
        return int(max(self.block, self.decay * left))

    def allows(self, query: Tensor, key: Tensor, head: Tensor | None = None) -> Tensor:
        return self.on(key.device)(query, key, head)

    def on(self, device: torch.device) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
        widths, tokens = _widths(self, device)[0], self.tokens

        def allows(query: Tensor, key: Tensor, head: Tensor | None) -> Tensor:
            apart = (query // tokens - key // tokens).abs()
            return (query % tokens - key % tokens).abs() <= widths[apart]

        return allows

    def tile(self, query: Range, key: Range, head: Tensor | None = None) -> Tile:
        (q_frame, q_frames), (k_frame, k_frames) = (
            _distinct(_interval(each, 0, self.tokens, self.frames)) for each in (query, key)
        )
        _, widest, narrowest, dropped = _widths(self, key.low.device)
        near, far = _distance(Range(q_frames.low[:, None], q_frames.high[:, None]), k_frames)
        kept = far - near + 1 - (dropped[far + 1] - dropped[near])
        # how far apart tokens may stand within their frames: in some pair of frames, in every pair (-1: none)
        some = widest[near].masked_fill(kept == 0, -1).int()
        every = narrowest[far].masked_fill(kept < far - near + 1, -1).int()
        q, k = (_interval(each, self.tokens, 1, self.tokens) for each in (query, key))
        closest, farthest = _distance(q, k)
        return Tile(closest <= some[q_frame, k_frame], farthest <= every[q_frame, k_frame])

    def needed(self, key: Tensor, now: Tensor | int, head: Tensor | None = None) -> Tensor:
        return torch.ones_like(key, dtype=torch.bool)


def _along(position: Tensor, whole: int, each: int) -> Tensor:
    """The coordinate on an axis whose steps are `each` tokens and whose length is `whole` tokens (0: open)."""
    return (position % whole if whole else position) // each


def _interval(positions: Range, whole: int, each: int, size: int) -> Range:
    """Coordinates on one axis that a run of tokens touches: all of them when it goes on to the next row."""
    if not whole:
        return Range(positions.low // each, positions.high // each)
    wraps = positions.low // whole != positions.high // whole
    low, high = _along(positions.low, whole, each), _along(positions.high, whole, each)
    return Range(low.masked_fill(wraps, 0), high.masked_fill(wraps, size - 1))


def _near(query: Tensor, key: Tensor, size: int, kernel: int, dilation: int, causal: bool) -> Tensor:
    if causal:
        return Dilated(kernel, dilation).allows(query, key)
    grid = query % dilation
    length = (size - grid + dilation - 1) // dilation  # of this one of the interleaved grids
    start = (query // dilation - kernel // 2).clamp(min=0).minimum(length - kernel)
    step = key // dilation
    return (key % dilation == grid) & (step >= start) & (step < start + kernel)


def _near_tile(query: Range, key: Range, size: int, kernel: int, dilation: int, causal: bool) -> Tile:
    if causal:
        return Dilated(kernel, dilation).tile(query, key)

    def first(at: Tensor) -> Tensor:
        return (at - dilation * (kernel // 2)).clamp(max=size - dilation * kernel).clamp(min=0)

    def last(at: Tensor) -> Tensor:
        return (at + dilation * ((kernel - 1) // 2)).clamp(min=dilation * kernel - 1).clamp(max=size - 1)

    some = (key.high >= first(query.low)) & (key.low <= last(query.high))
    if dilation == 1:
        return Tile(some, (key.low >= first(query.high)) & (key.high <= last(query.low)))
    nearest, farthest = query.low - key.high, query.high - key.low
    some = some & (farthest // dilation * dilation >= nearest)
    single = (query.low == query.high) & (key.low == key.high)
    return Tile(some, single & _near(query.low, key.low, size, kernel, dilation, causal))


def _distance(one: Range, other: Range) -> tuple[Tensor, Tensor]:
    """The least and the greatest distance between members of two ranges."""
    near = (one.low - other.high).maximum(other.low - one.high).clamp(min=0)
    return near, (one.high - other.low).maximum(other.high - one.low)


def _distinct(ranges: Range) -> tuple[Tensor, Range]:
    """Ranges that are not the same, and for each given one which of them it is."""
    pairs, number = torch.stack([ranges.low.flatten(), ranges.high.flatten()]).unique(dim=1, return_inverse=True)
    return number.view(ranges.low.shape), Range(pairs[0].long(), pairs[1].long())


@lru_cache(maxsize=16)
def _widths(span: Radial, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """By distance in frames: the band, the widest from there on, the narrowest kept up to there, dropped before."""
    width = torch.tensor([span.width(distance) for distance in range(span.frames)])
    gone = width < 0
    widest = width.flip(0).cummax(0).values.flip(0)
    narrowest = width.masked_fill(gone, span.tokens).cummin(0).values
    dropped = torch.cat([torch.zeros(1, dtype=torch.int64), gone.cumsum(0)])
    return width.to(device), widest.to(device), narrowest.to(device), dropped.to(device)
