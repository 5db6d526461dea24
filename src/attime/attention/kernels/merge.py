r"""Softmax attention in pieces: each piece gives its output and the log of its denominator, and pieces merge in any order.

    piece P:  o_P = sum_{j in P} exp(s_j - lse_P) v_j        lse_P = log sum_{j in P} exp(s_j)
    merged:   lse = log sum_P exp(lse_P)                     o = sum_P exp(lse_P - lse) o_P

    out, lse = merge(partial(q, k1, v1), partial(q, k2, v2))     # == attention over both

A piece that holds nothing has lse = -inf and o = 0; it changes nothing. For one query and all prefixes of its keys
(`prefix_softmax`) the pieces are triples (greatest score, weight, weighted sum) relative to that greatest score.

Source: Online normalizer calculation for softmax, arXiv 1805.02867; Attention as an RNN, arXiv 2405.13956, sec. 3.2.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["Piece", "Triple", "fused_partial", "merge", "partial", "prefix_softmax", "prefix_softmax_naive"]

CHUNK = 64  # a machine constant: tokens whose prefixes are taken in one matrix product

Output = Float[Tensor, "batch heads queries value_dim"]
Lse = Float[Tensor, "batch heads queries"]
Piece = tuple[Output, Lse]


class Triple(NamedTuple):
    """What one query has seen so far: the state of `prefix_softmax`. `Triple.empty` before the first token."""

    top: Float[Tensor, "batch heads"]
    """Greatest score; -inf before the first."""
    weight: Float[Tensor, "batch heads"]
    """Sum of exp(score - top)."""
    total: Float[Tensor, "batch heads value_dim"]
    """Sum of exp(score - top) value."""

    @classmethod
    def empty(cls, values: Float[Tensor, "batch heads time value_dim"]) -> "Triple":
        """Nothing seen yet, for values like these; in float32 at least."""
        batch, heads, _, value_dim = values.shape
        zeros = values.new_zeros(batch, heads, value_dim, dtype=torch.promote_types(values.dtype, torch.float32))
        return cls(torch.full_like(zeros[..., 0], -torch.inf), torch.zeros_like(zeros[..., 0]), zeros)


def partial(
    q: Float[Tensor, "batch heads queries head_dim"],
    k: Float[Tensor, "batch kv_heads keys head_dim"],
    v: Float[Tensor, "batch kv_heads keys value_dim"],
    *,
    mask: Bool[Tensor, "#batch #heads #queries keys"] | None = None,
    bias: Float[Tensor, "#batch #heads #queries #keys"] | None = None,
    scale: float | None = None,
) -> Piece:
    """Attention over one piece of the keys: its output, in the dtype of `v`, and lse, in float32 at least.

    Densely computed: for few queries or few keys. `mask` is True where a key is seen; `bias` is added to the scores.
    """
    groups, wide = q.shape[1] // k.shape[1], torch.promote_types(q.dtype, torch.float32)
    grouped = q.unflatten(1, (k.shape[1], groups)).flatten(2, 3)  # queries that share a key head stand in one matrix
    scores = (grouped @ k.mT).unflatten(2, (groups, -1)).flatten(1, 2).to(wide)
    scores = scores * (q.shape[-1] ** -0.5 if scale is None else scale)
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    lse = scores.logsumexp(-1)
    weights = (scores - lse.clamp(min=torch.finfo(wide).min)[..., None]).exp().to(v.dtype)
    out = weights.unflatten(1, (k.shape[1], groups)).flatten(2, 3) @ v
    return out.unflatten(2, (groups, -1)).flatten(1, 2), lse


def fused_partial(
    q: Float[Tensor, "batch heads queries head_dim"],
    k: Float[Tensor, "batch heads keys head_dim"],
    v: Float[Tensor, "batch heads keys value_dim"],
    *,
    bias: Float[Tensor, "#batch #heads #queries #keys"] | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Piece:
    """The same without gradients, by PyTorch's own CPU kernel: `scaled_dot_product_attention` calls it but drops its lse.

    `causal`: query i sees keys 0..i of as many.
    """
    if q.device.type != "cpu" or q.shape[-1] != v.shape[-1]:
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril() if causal else None
        return partial(q, k, v, bias=bias, mask=None if mask is None else mask[None, None], scale=scale)
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return flash(q, k, v, is_causal=causal, attn_mask=bias, scale=scale)


def merge(*pieces: Piece) -> Piece:
    """Attention over all the pieces together. Gradients flow through outputs and lse."""
    outputs, sums = zip(*pieces, strict=True)
    stacked = torch.stack(sums)
    lse = stacked.logsumexp(0)
    weights = (stacked - lse.clamp(min=torch.finfo(lse.dtype).min)).exp()[..., None]
    out = torch.stack([weight * each for weight, each in zip(weights.unbind(0), outputs, strict=True)]).sum(0)
    return out.to(outputs[0].dtype), lse


def prefix_softmax(
    scores: Float[Tensor, "batch heads time"],
    values: Float[Tensor, "batch heads time value_dim"],
    carry: Triple | None = None,
) -> tuple[Float[Tensor, "batch heads time value_dim"], Triple]:
    """Output t is the softmax-weighted mean of values 0..t (and of what `carry` saw before); all t in parallel.

    A score of -inf is a token that is not there. The output is in float32 at least; the carry returned is the state
    after the last token.
    """
    carry = Triple.empty(values) if carry is None else carry
    scores, values = scores.to(carry.total.dtype), values.to(carry.total.dtype)
    seen = _prefixes(Triple(scores, torch.ones_like(scores), values), carry)
    out = seen.total / seen.weight.clamp(min=torch.finfo(seen.weight.dtype).tiny)[..., None]
    return out, Triple(seen.top[..., -1], seen.weight[..., -1], seen.total[..., -1, :])


def prefix_softmax_naive(
    scores: Float[Tensor, "batch heads time"],
    values: Float[Tensor, "batch heads time value_dim"],
    carry: Triple | None = None,
) -> tuple[Float[Tensor, "batch heads time value_dim"], Triple]:
    """The same, one token at a time."""
    top, weight, total = Triple.empty(values) if carry is None else carry
    lowest, outputs = torch.finfo(total.dtype).min, []
    for score, value in zip(scores.to(total.dtype).unbind(2), values.to(total.dtype).unbind(2), strict=True):
        new_top = torch.maximum(top, score).detach()
        shift = new_top.clamp(min=lowest)  # -inf - -inf is not a number
        old, new = (top - shift).exp(), (score - shift).exp()
        top, weight = new_top, old * weight + new
        total = old[..., None] * total + new[..., None] * value
        outputs.append(total / weight.clamp(min=torch.finfo(total.dtype).tiny)[..., None])
    return torch.stack(outputs, dim=2), Triple(top, weight, total)


def _prefixes(parts: Triple, before: Triple | None) -> Triple:
    """Every prefix of a row of triples (`batch heads time ...`) merged, after `before`."""
    time = parts.top.shape[2]
    if time <= CHUNK:
        return _short(parts, before)
    spare = -time % CHUNK
    chunks = Triple(*(_chunked(part, spare, empty) for part, empty in zip(parts, (-torch.inf, 0.0, 0.0), strict=True)))
    inside = _short(chunks, None)
    ends = Triple(inside.top[..., -1], inside.weight[..., -1], inside.total[..., -1, :])
    # what stands before each chunk: the prefixes of the chunks' ends, one place on
    reached = _prefixes(ends, before)
    first = before or Triple(*(torch.full_like(end[:, :, 0], 0.0) for end in ends))._replace(
        top=torch.full_like(ends.top[:, :, 0], -torch.inf)
    )
    earlier = Triple(
        *(torch.cat([one[:, :, None], rest[:, :, :-1]], 2) for one, rest in zip(first, reached, strict=True))
    )
    top = torch.maximum(inside.top, earlier.top[..., None])
    shift = top.clamp(min=torch.finfo(top.dtype).min)
    here, there = (inside.top - shift).exp(), (earlier.top[..., None] - shift).exp()
    weight = here * inside.weight + there * earlier.weight[..., None]
    total = here[..., None] * inside.total + there[..., None] * earlier.total[..., None, :]
    return Triple(*(each.flatten(2, 3)[:, :, :time] for each in (top, weight, total)))


def _short(parts: Triple, before: Triple | None) -> Triple:
    """The same for few triples, by one matrix product; the last time axis is `top`'s last."""
    if before is not None:
        joined = (torch.cat([one[:, :, None], rest], 2) for one, rest in zip(before, parts, strict=True))
        return Triple(*(each[:, :, 1:] for each in _short(Triple(*joined), None)))
    # the greatest score cancels out of every output, so no gradient goes through it
    top = parts.top.detach().cummax(-1).values
    shift = top.clamp(min=torch.finfo(top.dtype).min)
    gaps = parts.top[..., None, :] - shift[..., :, None]
    later = torch.ones(gaps.shape[-2:], dtype=torch.bool, device=gaps.device).triu(1)
    weights = gaps.masked_fill(later, -torch.inf).exp()
    joined = weights @ torch.cat([parts.weight[..., None], parts.total], -1)
    return Triple(top, joined[..., 0], joined[..., 1:])


def _chunked(part: Tensor, spare: int, empty: float) -> Tensor:
    if spare:
        shape = (*part.shape[:2], spare, *part.shape[3:])
        part = torch.cat([part, part.new_full(shape, empty)], 2)
    return part.unflatten(2, (-1, CHUNK))
