r"""Block-sparse softmax attention from a list of key blocks per query block.

    o_i = sum_{j seen by i} softmax_j(q_i k_j^T / sqrt(d)) v_j        lse_i = log sum_j exp(q_i k_j^T / sqrt(d))

    attend_blocks(q, k, v, span.blocks(time))                  # -> out
    attend_blocks(q, k, v, blocks, with_lse=True)              # -> (out, lse), to be merged: see kernels.merge
    attend_blocks_naive(q, k, v, blocks)                       # the equation, with a dense mask

Heads of queries may be a multiple of the heads of keys and values (grouped queries). A query that sees nothing gives
o = 0 and lse = -inf. On a CPU a loop over query blocks slices the keys it reads and masks only blocks that are not
whole; the backward pass recomputes a block's weights from lse, so memory is that of the inputs. On a GPU FlexAttention
runs the same list.

Source: FlashAttention, arXiv 2205.14135 (backward from lse); FlexAttention, arXiv 2412.05496 (block lists).
"""

import math
from functools import cache, lru_cache
from typing import Any, Literal, overload

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, flex_attention

from attime.attention.kernels.blocklist import FLEX_BLOCK, BlockList, Row
from attime.attention.kernels.merge import Piece, fused_partial, partial
from attime.errors import AttimeError

__all__ = ["attend_blocks", "attend_blocks_naive"]

Queries = Float[Tensor, "batch heads queries head_dim"]
Keys = Float[Tensor, "batch kv_heads keys head_dim"]
Values = Float[Tensor, "batch kv_heads keys value_dim"]
Output = Float[Tensor, "batch heads queries value_dim"]

KEPT = 1024  # columns: masks up to this wide are kept for the next query block of the same shape


@overload
def attend_blocks(
    q: Queries, k: Keys, v: Values, blocks: BlockList, *, scale: float | None = None, with_lse: Literal[False] = False
) -> Output: ...
@overload
def attend_blocks(
    q: Queries, k: Keys, v: Values, blocks: BlockList, *, scale: float | None = None, with_lse: Literal[True]
) -> Piece: ...
def attend_blocks(
    q: Queries, k: Keys, v: Values, blocks: BlockList, *, scale: float | None = None, with_lse: bool = False
) -> Output | Piece:
    """Attention over the blocks in the list; with `with_lse` also the log of the denominator, in float32 at least.

    The list's heads are 1, those of the keys, or those of the queries.
    """
    _check(q, k, blocks)
    run = _by_flex if q.is_cuda else _by_loop
    out, lse = run(q, k, v, blocks, q.shape[-1] ** -0.5 if scale is None else scale)
    return (out, lse) if with_lse else out


def attend_blocks_naive(q: Queries, k: Keys, v: Values, blocks: BlockList, *, scale: float | None = None) -> Piece:
    """The equation, with a dense mask: output and lse."""
    _check(q, k, blocks)
    groups = q.shape[1] // blocks.heads
    mask = blocks.allows(blocks.query[:, None], blocks.key, torch.arange(blocks.heads)[:, None, None])
    mask = mask.expand(blocks.heads, q.shape[2], k.shape[2]).repeat_interleave(groups, 0)
    return partial(q, k, v, mask=mask[None].to(q.device), scale=scale)


def _check(q: Tensor, k: Tensor, blocks: BlockList) -> None:
    if q.shape[1] % k.shape[1] or blocks.heads not in (1, k.shape[1], q.shape[1]):
        raise AttimeError(
            f"attend_blocks needs heads of queries that are a multiple of the heads of keys, and a list for 1, as many "
            f"or all heads; got {q.shape[1]}, {k.shape[1]} and a list for {blocks.heads}."
        )
    if (q.shape[2], k.shape[2]) != (blocks.query.numel(), blocks.key.numel()):
        raise AttimeError(
            f"attend_blocks got a list for {blocks.query.numel()} queries and {blocks.key.numel()} keys, and tensors of "
            f"{q.shape[2]} and {k.shape[2]}."
        )


@torch.compiler.disable()
def _by_loop(q: Tensor, k: Tensor, v: Tensor, blocks: BlockList, scale: float) -> Piece:
    kv_heads = k.shape[1]
    if blocks.heads == 1:
        return _join([_Blocks.apply(q.unflatten(1, (kv_heads, -1)), k, v, blocks.rows[0], scale)], 1)
    if blocks.heads == kv_heads:
        queries, groups = q.unflatten(1, (kv_heads, -1)).unbind(1), 1
    else:
        queries, groups = [head[:, None] for head in q.unbind(1)], q.shape[1] // kv_heads
    keys, values = k.unbind(1), v.unbind(1)  # not k[:, head]: its backward would fill a zero tensor for every head
    lanes = [
        _Blocks.apply(each[:, None], keys[head // groups][:, None], values[head // groups][:, None], rows, scale)
        for head, (each, rows) in enumerate(zip(queries, blocks.rows, strict=True))
    ]
    return _join(lanes, len(lanes))


def _join(lanes: list[Any], number: int) -> Piece:
    out, lse = ([lane[which].flatten(1, 2) for lane in lanes] for which in (0, 1))
    return (out[0], lse[0]) if number == 1 else (torch.cat(out, 1), torch.cat(lse, 1))


class _Blocks(torch.autograd.Function):
    """q (batch kv_heads groups queries head_dim), k and v (batch kv_heads keys head_dim) -> output and lse."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, rows: tuple[Row, ...], scale: float
    ) -> tuple[Tensor, Tensor]:
        batch, kv_heads, groups, queries, _ = q.shape
        out = q.new_zeros(batch, kv_heads, groups, queries, v.shape[-1])
        wide = torch.promote_types(q.dtype, torch.float32)
        lse = q.new_full((batch, kv_heads, groups, queries), -torch.inf, dtype=wide)
        kept: dict[Any, Tensor] = {}
        for row in rows:
            if not row.runs:
                continue
            piece = q[:, :, :, row.start : row.stop].flatten(2, 3)
            bias = _bias(row, groups, q.dtype, kept)
            found, total = fused_partial(piece, _gather(k, row), _gather(v, row), bias=bias, scale=scale)
            total = total.unflatten(2, (groups, -1))
            out[:, :, :, row.start : row.stop] = found.unflatten(2, (groups, -1))
            lse[:, :, :, row.start : row.stop] = (
                total if row.blind is None else total.masked_fill(row.blind, -torch.inf)
            )
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.rows, ctx.scale = rows, scale
        ctx.set_materialize_grads(False)
        return out, lse

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        (q, k, v, out, lse), (d_out, d_lse) = ctx.saved_tensors, gradients
        wide, groups = lse.dtype, q.shape[2]
        d_out = torch.zeros_like(out) if d_out is None else d_out
        # score gradients are weights * (d_weights - delta), and lse pulls on every weight alike
        delta = (d_out * out).sum(-1, dtype=wide)
        delta = delta if d_lse is None else delta - d_lse
        shape = q.shape
        q, d_out = (each.reshape(-1, groups, *each.shape[3:]) for each in (q, d_out))
        lse, delta = (each.reshape(-1, groups, each.shape[3], 1) for each in (lse, delta))
        k_shape, v_shape = k.shape, v.shape
        k, v = (each.reshape(-1, *each.shape[2:]) for each in (k, v))
        d_q = torch.zeros_like(q)
        d_k, d_v = (torch.zeros(each.shape, dtype=wide, device=each.device) for each in (k, v))
        for row in ctx.rows:
            if not row.runs:
                continue
            at = slice(row.start, row.stop)
            piece, pull = q[:, :, at].flatten(1, 2) * ctx.scale, d_out[:, :, at].flatten(1, 2)
            keys, values = _gather(k[:, None], row)[:, 0], _gather(v[:, None], row)[:, 0]
            weights = torch.bmm(piece, keys.mT).to(wide)
            weights.sub_(lse[:, :, at].flatten(1, 2)).exp_()
            for start, stop, hidden in row.hidden:
                weights[:, :, start:stop].masked_fill_(hidden if groups == 1 else hidden.repeat(groups, 1), 0)
            inside = torch.bmm(pull, values.mT).to(wide)
            inside.sub_(delta[:, :, at].flatten(1, 2)).mul_(weights)
            inside, weights = inside.to(q.dtype), weights.to(q.dtype)
            d_q[:, :, at] = torch.bmm(inside, keys).mul_(ctx.scale).unflatten(1, (groups, -1))
            _scatter(d_k, torch.bmm(inside.mT, piece), row)
            _scatter(d_v, torch.bmm(weights.mT, pull), row)
        return d_q.view(shape), d_k.to(k.dtype).view(k_shape), d_v.to(v.dtype).view(v_shape), None, None


def _gather(x: Tensor, row: Row) -> Tensor:
    pieces = [x[:, :, start:stop] for start, stop in row.runs]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, 2)


def _scatter(into: Tensor, x: Tensor, row: Row) -> None:
    for piece, (start, stop) in zip(x.split([stop - start for start, stop in row.runs], 1), row.runs, strict=True):
        into[:, start:stop] += piece


def _bias(row: Row, groups: int, dtype: torch.dtype, kept: dict[Any, Tensor]) -> Tensor | None:
    """What is added to the scores: -inf where a pair is not seen."""
    if not row.hidden:
        return None
    key = (row.columns, *((start, id(hidden)) for start, _, hidden in row.hidden))
    if key in kept:
        return kept[key]
    bias = torch.zeros(row.stop - row.start, row.columns, dtype=dtype)
    for start, stop, hidden in row.hidden:
        bias[:, start:stop].masked_fill_(hidden, -torch.inf)
    bias = bias.repeat(groups, 1)[None, None]
    if row.columns <= KEPT:
        kept[key] = bias
    return bias


def _by_flex(q: Tensor, k: Tensor, v: Tensor, blocks: BlockList, scale: float) -> Piece:
    out, aux = _flex()(
        q,
        k,
        v,
        block_mask=_flex_mask(blocks, q.device, q.shape[1]),
        scale=scale,
        enable_gqa=q.shape[1] != k.shape[1],
        return_aux=AuxRequest(lse=True),
    )
    return out, aux.lse


@lru_cache(maxsize=32)
def _flex_mask(blocks: BlockList, device: torch.device, heads: int) -> BlockMask:
    """In blocks that a GPU's kernel takes: multiples of FLEX_BLOCK."""
    factor = FLEX_BLOCK // math.gcd(blocks.size, FLEX_BLOCK)
    return (blocks if factor == 1 else blocks.coarser(factor)).block_mask(device, heads=heads)


@cache
def _flex() -> Any:
    return torch.compile(flex_attention)
