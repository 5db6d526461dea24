r"""Softmax attention of tiles of queries, each tile over its own gathered keys.

    o_i = sum_j softmax_j(s q_i k_j) v_j        j over the keys of i's tile that i sees

Tiles need not be runs of tokens: on a grid they are boxes, and their keys are the box and its halo. Tiles are gathered
a few at a time, and again in the backward pass, so that memory beyond inputs and outputs does not grow with their number.

Source:  Faster Neighborhood Attention, arXiv 2403.04690, sec. 3 (tiles and halos, fused); FlashAttention,
         arXiv 2205.14135 (recomputation).
Cost:    4 d operations per pair of query and key of a tile, seen or not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = ["Tiles", "attend_tiles", "attend_tiles_naive"]

Queries = Float[Tensor, "batch heads queries head_dim"]
Keys = Float[Tensor, "batch heads keys head_dim"]

CACHED = 2**19  # numbers gathered at a time on a CPU: they stay in cache
LAUNCHED = 2**26  # and on a GPU: enough to fill it


@final
@dataclass(frozen=True, kw_only=True)
class Tiles:
    """Which queries stand in which tile, and what they see. Every query stands in exactly one tile."""

    query: Int[Tensor, "tiles queries"]
    """Token index of each query; -1 where a tile is not full."""
    key: Int[Tensor, "tiles keys"]
    """Token index of each gathered key; keys that nobody sees fill up."""
    seen: Bool[Tensor, "tiles queries keys"]
    """Which query sees which key; at least one each, also where there is no query."""

    def to(self, device: torch.device) -> "Tiles":
        """The same table on a device."""
        return Tiles(query=self.query.to(device), key=self.key.to(device), seen=self.seen.to(device))


def attend_tiles_naive(q: Queries, k: Keys, v: Keys, tiles: Tiles, scale: float) -> Queries:
    """The equation, one query at a time."""
    out = torch.empty_like(q)
    for row, keys, sees in zip(tiles.query, tiles.key, tiles.seen, strict=True):
        for place, seen in zip(row.tolist(), sees, strict=True):
            if place >= 0:
                near = keys[seen]
                weights = (scale * (k[:, :, near] @ q[:, :, place, :, None])).softmax(2)
                out[:, :, place] = (weights * v[:, :, near]).sum(2)
    return out


def attend_tiles(q: Queries, k: Keys, v: Keys, tiles: Tiles, scale: float) -> Queries:
    """The same numbers, tiles at a time."""
    return _apply(q, k, v, tiles.query, tiles.key, tiles.seen, scale)


class _AttendTiles(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, query: Tensor, key: Tensor, seen: Tensor, scale: float
    ) -> Tensor:
        ctx.save_for_backward(q, k, v, query, key, seen)
        ctx.scale = scale
        out = torch.empty_like(q)
        for at, from_, keys, sees in _pieces(q, query, key, seen):
            tiles = _scores(_take(q, from_), _take(k, keys), _take(v, keys), sees, scale)
            out.index_copy_(2, *_full(at, tiles))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, query, key, seen = ctx.saved_tensors
        wide = torch.promote_types(q.dtype, torch.float32)  # keys add up over the tiles that share them
        to_q, to_k, to_v = torch.empty_like(q), torch.zeros_like(k, dtype=wide), torch.zeros_like(v, dtype=wide)
        for at, from_, keys, sees in _pieces(q, query, key, seen):
            with torch.enable_grad():
                near_q, near_k, near_v = (_take(x, i).requires_grad_() for x, i in ((q, from_), (k, keys), (v, keys)))
                tiles = _scores(near_q, near_k, near_v, sees, ctx.scale)
            arrived = _take(gradient, from_) * (at >= 0)[:, :, None]
            of_q, of_k, of_v = torch.autograd.grad(tiles, (near_q, near_k, near_v), arrived)
            to_q.index_copy_(2, *_full(at, of_q))
            to_k.index_add_(2, keys.flatten(), of_k.flatten(2, 3).to(wide))
            to_v.index_add_(2, keys.flatten(), of_v.flatten(2, 3).to(wide))
        return to_q, to_k.to(k.dtype), to_v.to(v.dtype), None, None, None, None


_apply: Any = torch.compiler.disable(_AttendTiles.apply)


def _pieces(q: Tensor, query: Tensor, key: Tensor, seen: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """As many tiles at a time as may be gathered at once: query places, the same without -1, keys, who sees whom."""
    room = CACHED if q.device.type == "cpu" else LAUNCHED
    count = max(1, room // (q.shape[0] * q.shape[1] * q.shape[3] * max(key.shape[1], query.shape[1])))
    for at, keys, sees in zip(query.split(count), key.split(count), seen.split(count), strict=True):
        yield at, at.clamp(min=0), keys, sees


def _take(x: Tensor, index: Tensor) -> Tensor:
    return x.index_select(2, index.flatten()).unflatten(2, index.shape)


def _scores(q: Tensor, k: Tensor, v: Tensor, seen: Tensor, scale: float) -> Tensor:
    out = F.scaled_dot_product_attention(
        q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), attn_mask=seen[None], scale=scale
    )
    return out.unflatten(0, q.shape[:2])


def _full(at: Tensor, tiles: Tensor) -> tuple[Tensor, Tensor]:
    """Token indices and rows of the queries that exist."""
    at, tiles = at.flatten(), tiles.flatten(2, 3)
    if bool((at >= 0).all()):
        return at, tiles
    there = (at >= 0).nonzero().squeeze(1)
    return at[there], tiles.index_select(2, there)
