r"""Matrix-valued recurrence that overwrites instead of adding: the gated delta rule.

    S_t = g_t (I - b_t k_t k_t^T) S_{t-1} + b_t k_t v_t^T        o_t = S_t^T q_t

Source:  Gated Delta Networks, arXiv 2412.06464, eq. 10; DeltaNet in parallel over length, arXiv 2406.06484 (WY form).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from attime.attention.kernels.carry import Form, carry
from attime.attention.kernels.recurrence import (
    HeadDecay,
    Heads,
    Memory,
    TokenDecay,
    Values,
    block_of,
    chunk_of,
    fold,
    gaps,
    token_decay,
    unfold,
)

__all__ = ["recur_delta", "recur_delta_naive"]

Beta = Float[Tensor, "batch heads time"]

CHUNK = 32  # machine constants: tokens of one triangular system at most, ...
CORNER = 8  # ... and those of it that are solved row by row


def recur_delta_naive(
    q: Heads, k: Heads, v: Values, log_decay: HeadDecay | TokenDecay | None, beta: Beta, memory: Memory
) -> tuple[Values, Memory]:
    """The equation, one token at a time."""
    outputs, dtype = [], memory.dtype
    decay = token_decay(log_decay, k, memory).exp()
    tokens = zip(*(x.to(dtype).unbind(2) for x in (q, k, v, decay, beta)), strict=True)
    for q_t, k_t, v_t, g_t, b_t in tokens:
        memory = g_t[..., None, None] * memory
        new = b_t[..., None] * (v_t - (k_t[..., None, :] @ memory).squeeze(-2))
        memory = memory + k_t[..., :, None] * new[..., None, :]
        outputs.append((q_t[..., None, :] @ memory).squeeze(-2))
    return torch.stack(outputs, dim=2).to(v.dtype), memory


def recur_delta(
    q: Heads, k: Heads, v: Values, log_decay: HeadDecay | TokenDecay | None, beta: Beta, memory: Memory
) -> tuple[Values, Memory]:
    """The same numbers, a block of tokens at a time.

    Keys should have length at most one, and `beta` lie between 0 and 2, or the memory may grow without bound.
    `log_decay` (at most 0), dtypes and layouts are as in `recur`. A padded token has `log_decay` 0 and `beta` 0.
    """
    if torch.is_autocast_enabled(memory.device.type):  # it would round the memory
        with torch.autocast(memory.device.type, enabled=False):
            return recur_delta(q, k, v, log_decay, beta, memory)
    if q.shape[2] == 1:
        return _step(q, k, v, log_decay, beta, memory)
    if log_decay is None:
        log_decay = memory.new_zeros(q.shape[1])
    return carry(FORM, memory, (q, k, v, log_decay, beta), block=block_of(q, v, CHUNK))


def _forward(memory: Tensor, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """With what is new at each token, u = beta (v - S^T k), the memory is a plain sum of k u^T again.

    Within a chunk u solves (I + own) u = beta (v - decayed k S), where S is the memory before the chunk.
    """
    length, chunk = q.shape[2], chunk_of(q, v, CHUNK)
    total, (q, k, v, beta) = fold(memory, q, log_decay, k, v, beta, chunk=chunk, halving=True)
    between, grown, last = gaps(total), total.exp2(), total[..., -1:, :]
    inverse = _inverse((k @ k.mT).mul_(between).mul_(beta).tril_(-1))
    fresh, read = inverse @ (beta * v), inverse @ (beta * grown * k)
    states, news, memory = _scan(memory, fresh, read, k * (last - total).exp2(), last.exp2())
    scores = (q @ k.mT).mul_(between).tril_()
    return unfold((scores @ news).add_((q * grown) @ states), 4, length), memory


def _backward(
    memory: Tensor, inputs: Sequence[Tensor], d_out: Tensor, d_memory: Tensor, needs: Sequence[bool]
) -> Sequence[Tensor | None]:
    """Each line of `_forward` transposed."""
    q, k, v, log_decay, beta = inputs
    length, chunk = q.shape[2], chunk_of(q, v, CHUNK)
    total, (q, k, v, beta, d_out) = fold(memory, q, log_decay, k, v, beta, d_out, chunk=chunk, halving=True)
    between, grown, last = gaps(total), total.exp2(), total[..., -1:, :]
    left, decay = (last - total).exp2(), last.exp2()
    alike = (k @ k.mT).mul_(between).tril_(-1)
    inverse = _inverse(alike * beta)
    asked, kept = beta * grown * k, k * left
    fresh, read = inverse @ (beta * v), inverse @ asked
    before, news, _ = _scan(memory, fresh, read, kept, decay)
    scores = (q @ k.mT).mul_(between).tril_()

    after, d_news, d_memory = _scan_back(d_memory, scores.mT @ d_out, (q * grown).mT @ d_out, read, kept, decay)
    d_right = inverse.mT @ d_news
    d_asked = (d_right @ before.mT).neg_()
    d_own = (d_right @ news.mT).neg_().tril_(-1)
    d_scores = (d_out @ news.mT).mul_(between).tril_()
    d_alike = d_own * between * beta
    d_q = torch.addcmul(d_scores @ k, d_out @ before.mT, grown)
    later = torch.addcmul(d_alike @ k, d_asked, beta * grown)  # k where it reads, ...
    earlier = torch.addcmul(d_scores.mT @ q + d_alike.mT @ k, news @ after.mT, left)  # ... and where it is written
    d_beta = (d_own * alike).sum(-1) + (d_right * v).sum(-1) + (d_asked * k * grown).sum(-1)
    d_decay = None
    if needs[3]:
        d_total = (q * d_q + k * (later - earlier)).sum(-1, keepdim=True)
        written = (news * (kept @ after)).sum((-1, -2)) + (after * before).sum((-1, -2)) * decay[..., 0, 0]
        d_total[..., -1, 0] += written
        d_decay = unfold(d_total.flip(3).cumsum(3).flip(3), log_decay.dim(), length)
    parts = (unfold(d, 4, length) for d in (d_q, later + earlier, beta * d_right))
    return d_memory, *parts, d_decay, unfold(d_beta[..., None], 3, length)


FORM = Form(forward=_forward, backward=_backward)


def _scan(memory: Tensor, fresh: Tensor, read: Tensor, kept: Tensor, decay: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The memory before each chunk, what is new at each token, and the memory after the last."""
    before, news = [], []
    decay = decay.expand(-1, -1, fresh.shape[2], -1, -1)
    for fresh_c, read_c, kept_c, decay_c in zip(*(x.unbind(2) for x in (fresh, read, kept, decay)), strict=True):
        before.append(memory)
        news.append(fresh_c - read_c @ memory)
        memory = torch.addcmul(kept_c.mT @ news[-1], decay_c, memory)
    return torch.stack(before, dim=2), torch.stack(news, dim=2), memory


def _scan_back(
    d_memory: Tensor, d_news: Tensor, d_states: Tensor, read: Tensor, kept: Tensor, decay: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the memory after each chunk, of what is new at each token, and of the memory before the first."""
    after, found = [], []
    decay = decay.expand(-1, -1, read.shape[2], -1, -1)
    chunks = zip(*(x.unbind(2) for x in (d_news, d_states, read, kept, decay)), strict=True)
    for d_new, d_state, read_c, kept_c, decay_c in reversed(list(chunks)):
        after.append(d_memory)
        found.append(d_new + kept_c @ d_memory)
        d_memory = torch.addcmul(d_state, decay_c, d_memory) - read_c.mT @ found[-1]
    return torch.stack(after[::-1], dim=2), torch.stack(found[::-1], dim=2), d_memory


def _inverse(own: Tensor) -> Tensor:
    """The inverse of I + own, for strictly lower triangles of a size that is a power of two.

    Rows of small corners one after another, then corners joined two by two: matrix products instead of the solver,
    which is slow on many small matrices.
    """
    size = own.shape[-1]
    if torch.is_grad_enabled() and own.requires_grad:
        one = torch.eye(size, device=own.device, dtype=own.dtype).expand_as(own)
        return torch.linalg.solve_triangular(own, one, upper=False, unitriangular=True)
    flat, corner = own.flatten(0, -3), min(CORNER, size)
    rows = _corners(flat, corner).permute(2, 3, 0, 1).reshape(corner, corner, -1).neg_()
    for row in range(1, corner):
        rows[row, :row] += (rows[row, :row, None] * rows[:row, :row]).sum(0)
    found = rows.permute(2, 0, 1).contiguous()
    found.diagonal(dim1=1, dim2=2).fill_(1)
    while corner < size:
        first, second = found.view(-1, 2, corner, corner).unbind(1)
        below = _corners(flat, 2 * corner)[:, :, corner:, :corner].reshape(first.shape)
        found = found.new_zeros(first.shape[0], 2 * corner, 2 * corner)
        found[:, :corner, :corner], found[:, corner:, corner:] = first, second
        found[:, corner:, :corner] = (second @ below @ first).neg_()
        corner *= 2
    return found.view_as(own)


def _corners(x: Tensor, size: int) -> Tensor:
    """Blocks on the diagonal: (matrices, blocks, size, size)."""
    count = x.shape[-1] // size
    return x.view(-1, count, size, count, size).diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)


def _step(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, beta: Tensor, memory: Tensor
) -> tuple[Tensor, Tensor]:
    """One token: the equation, in as few calls as it takes."""
    dtype = v.dtype
    if q.dtype != memory.dtype or k.dtype != memory.dtype or dtype != memory.dtype:
        q, k, v = (x.to(memory.dtype) for x in (q, k, v))
    if log_decay is not None:
        decay = log_decay.to(memory.dtype).exp()
        memory = memory * (decay[:, None, None] if decay.dim() == 1 else decay[..., None])
    memory = torch.addcmul(memory, k.mT, beta[..., None].to(memory.dtype) * (v - k @ memory))
    return (q @ memory).to(dtype), memory
