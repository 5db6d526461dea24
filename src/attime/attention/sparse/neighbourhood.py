r"""Neighbourhood attention: every place of a grid attends to the nearest k places along each axis.

    o_i = sum_j softmax_j(q_i k_j / sqrt(d)) v_j        j in N(i) = N_time x N_height x N_width
    N(i) on an axis of n:  start = clamp(i - k // 2, 0, n - k),  start <= j < start + k
    causal axis:           max(0, i - k + 1) <= j <= i

The window shifts at borders: it neither shrinks nor reads padding. A dilation of r applies the rule inside each residue
class of places modulo r.

Source:  Faster Neighborhood Attention, arXiv 2403.04690, sec. 2-3; dilation arXiv 2209.15001.
Names:   our `kernel` is their kernel_size; each option is one number for all axes or one per axis (time, height, width).
Cost:    4 C prod(k) operations per place; the tiled form computes prod(t + k - 1) / prod(k) times as many for boxes of t.
Differs: an axis that is shorter than its window is seen whole (theirs is an error); no relative bias, no strides.
"""

import itertools
import math
from collections.abc import Sequence
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attime.attention.contract import Cost, Mixer, Traits
from attime.attention.heads import join_heads, per_head, split_heads
from attime.attention.kernels.tiles import Tiles, attend_tiles
from attime.errors import AttimeError

__all__ = ["Neighbourhood", "attend_near", "boxes"]

Axes = tuple[int, int, int]
Causal = tuple[bool, bool, bool]
Grid = Float[Tensor, "batch time height width heads head_dim"]
Places = Float[Tensor, "batch time height width dim"]


@final
class Neighbourhood(Mixer):
    """Attention to the nearest places of a line, an image or a clip (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(causal=False, valid=False, grid=True)

    def __init__(
        self,
        dim: int,
        *,
        heads: int = 2,
        kernel: int | Axes = 7,
        dilation: int | Axes = 1,
        causal: bool | Causal = False,
    ) -> None:
        super().__init__()
        self.dim, self.heads, self.head_dim = dim, heads, per_head(dim, heads, who="Neighbourhood")
        self.kernel, self.dilation = _axes(kernel), _axes(dilation)
        self.causal = _axes(causal)
        if min(self.kernel) < 1 or min(self.dilation) < 1:
            raise AttimeError(
                f"Neighbourhood needs kernel >= 1 and dilation >= 1 on every axis; got kernel={self.kernel}, "
                f"dilation={self.dilation}."
            )
        self.inputs = nn.Linear(dim, 3 * dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)

    def mix(self, x: Tensor, state: None, valid: None) -> tuple[Tensor, None]:
        q, k, v = (split_heads(each, self.heads) for each in self.inputs(x.flatten(1, 3)).chunk(3, dim=-1))
        tiles = boxes(tuple(x.shape[1:4]), self.kernel, self.dilation, self.causal).to(x.device)
        out = attend_tiles(q, k, v, tiles, self.head_dim**-0.5)
        return self.output(join_heads(out)).unflatten(1, x.shape[1:4]), None

    def reference(self, x: Tensor) -> Tensor:
        q, k, v = self.inputs(x).unflatten(-1, (3, self.heads, self.head_dim)).unbind(-3)
        return self.output(attend_near(q, k, v, self.kernel, self.dilation, self.causal))

    def cost(self, length: int, dtype: torch.dtype = torch.float32) -> Cost:
        return Cost(operations=4 * self.dim * math.prod(self.kernel), state_bytes=0, read_bytes=0)

    @classmethod
    def examples(cls) -> Sequence["Neighbourhood"]:
        return [
            cls(8, kernel=3),
            cls(12, heads=3, kernel=(2, 3, 5), dilation=(1, 2, 1), causal=(True, False, False)),
        ]


def attend_near(q: Grid, k: Grid, v: Grid, kernel: Axes, dilation: Axes, causal: Causal) -> Places:
    """The definition, one place at a time."""
    near = [
        [_near(i, *each) for i in range(each[0])] for each in zip(q.shape[1:4], kernel, dilation, causal, strict=True)
    ]
    rows = []
    for t, i, j in itertools.product(*map(range, q.shape[1:4])):
        times, heights, widths = (each.to(q.device) for each in (near[0][t], near[1][i], near[2][j]))
        keys, values = (each[:, times][:, :, heights][:, :, :, widths].flatten(1, 3).transpose(1, 2) for each in (k, v))
        scores = (keys @ q[:, t, i, j, :, :, None]).squeeze(-1) / math.sqrt(q.shape[-1])
        rows.append((scores.softmax(-1)[..., None] * values).sum(-2).flatten(1))
    return torch.stack(rows, dim=1).unflatten(1, q.shape[1:4])


def boxes(
    sizes: tuple[int, ...],
    kernel: Axes,
    dilation: Axes = (1, 1, 1),
    causal: Causal = (False, False, False),
    *,
    past: int = 0,
) -> Tiles:
    """Cut a grid into boxes of some 64 places, each with the halo that its places see together.

    The first `past` of the times are keys only: queries are counted from there on.
    """
    active = [size > 1 and reach > 1 for size, reach in zip(sizes, kernel, strict=True)]
    edge = {0: 1, 1: 64, 2: 8, 3: 4}[sum(active)]  # a machine constant, as chunks are
    edges = [edge if each else 1 for each in active]
    tables = [_line(*each) for each in zip(sizes, kernel, dilation, causal, (past, 0, 0), edges, strict=True)]
    strides = (sizes[1] * sizes[2], sizes[2], 1)
    query, there, key, seen = torch.zeros(1, 1).long(), torch.ones(1, 1).bool(), torch.zeros(1, 1).long(), None
    for (own, halo, sees), stride in zip(tables, strides, strict=True):
        query, there = _outer(query, own * stride, torch.add), _outer(there, own >= 0, torch.logical_and)
        key = _outer(key, halo * stride, torch.add)
        if seen is None:
            seen = sees
        else:
            seen = (seen[:, None, :, None, :, None] & sees[None, :, None, :, None, :]).flatten(4, 5).flatten(2, 3)
            seen = seen.flatten(0, 1)
    assert seen is not None
    return Tiles(query=query.where(there, -1), key=key, seen=seen)


def _line(size: int, kernel: int, dilation: int, causal: bool, past: int, tile: int) -> tuple[Tensor, Tensor, Tensor]:
    """One axis cut into tiles: places of the queries (-1: none), places of the keys, who sees whom."""
    longest = -(-size // dilation)
    tile = min(tile, -(-(size - past) // dilation))
    halo = min(tile + min(kernel, longest) - 1, longest)
    queries, keys, sees = [], [], []
    for residue in range(min(dilation, size)):
        count = -(-(size - residue) // dilation)
        reach = min(kernel, count)
        first = max(0, -(-(past - residue) // dilation))
        place = torch.arange(first, max(first, count), tile)[:, None] + torch.arange(tile)
        own = place.clamp(max=count - 1)
        start = (own - reach + 1).clamp(min=0) if causal else (own - reach // 2).clamp(0, count - reach)
        stop = own + 1 if causal else start + reach
        near = start[:, :1].clamp(max=max(count - halo, 0)) + torch.arange(halo)
        queries.append((residue + dilation * place - past).where(place < count, -1))
        keys.append(residue + dilation * near.clamp(max=count - 1))
        sees.append((near[:, None] >= start[:, :, None]) & (near[:, None] < stop[:, :, None]))
    return torch.cat(queries), torch.cat(keys), torch.cat(sees)


def _outer(left: Tensor, right: Tensor, join) -> Tensor:
    """Tiles x tiles and, within them, places x places."""
    return join(left[:, None, :, None], right[None, :, None, :]).flatten(2, 3).flatten(0, 1)


def _near(place: int, size: int, kernel: int, dilation: int, causal: bool) -> Tensor:
    """The definition: of places a multiple of `dilation` away, the `kernel` nearest, the earlier first."""
    alike = [other for other in range(place % dilation, size, dilation) if other <= place or not causal]
    return torch.tensor(sorted(sorted(alike, key=lambda other: (abs(other - place), other))[:kernel]))


def _axes(value) -> tuple:
    return tuple(value) if isinstance(value, tuple) else (value,) * 3
