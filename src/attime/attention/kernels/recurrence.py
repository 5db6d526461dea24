r"""Matrix-valued linear recurrence, read by a query.

    S_t = diag(g_t) S_{t-1} + k_t v_t^T        o_t = S_t^T q_t

Source:  Lightning Attention, arXiv 2405.17381 (chunks); Gated Linear Attention, arXiv 2312.06635, sec. 4 (decay per
         channel); Transformers are RNNs, arXiv 2006.16236 (recurrence).
Cost:    time O(T C d + T d^2) for chunks of C; backward keeps the inputs and one memory per block.
Differs: exponents are differences of cumulated logarithms, never positive: no decay is too fast. A chunk with a decay
         per channel is halved until it is one token; the halves meet at the boundary between them.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from attime.attention.kernels.carry import Form, carry

__all__ = ["recur", "recur_naive"]

Heads = Float[Tensor, "batch heads time head_dim"]
Values = Float[Tensor, "batch heads time value_dim"]
HeadDecay = Float[Tensor, " heads"]
TokenDecay = Float[Tensor, "batch heads time"]
ChannelDecay = Float[Tensor, "batch heads time head_dim"]
Memory = Float[Tensor, "batch heads head_dim value_dim"]

CHUNK = 64  # machine constants: tokens of a chunk at most, ...
IN_CACHE = 1 << 17  # ... and numbers in each array of a block of chunks, which stay in cache
LOG2_E = math.log2(math.e)  # exp2 is the faster exponential on a CPU


def recur_naive(
    q: Heads, k: Heads, v: Values, log_decay: HeadDecay | TokenDecay | ChannelDecay | None, memory: Memory
) -> tuple[Values, Memory]:
    """The equation, one token at a time."""
    outputs, dtype = [], memory.dtype
    decay = token_decay(log_decay, k, memory).exp()
    decay = decay[..., None, None] if decay.dim() == 3 else decay[..., None]
    for q_t, k_t, v_t, g_t in zip(*(x.to(dtype).unbind(2) for x in (q, k, v, decay)), strict=True):
        memory = g_t * memory + k_t[..., :, None] * v_t[..., None, :]
        outputs.append((q_t[..., None, :] @ memory).squeeze(-2))
    return torch.stack(outputs, dim=2).to(v.dtype), memory


def recur(
    q: Heads, k: Heads, v: Values, log_decay: HeadDecay | TokenDecay | ChannelDecay | None, memory: Memory
) -> tuple[Values, Memory]:
    """The same numbers, a block of tokens at a time.

    `log_decay` (at most 0) is fixed per head, or per token and head, or per token, head and channel of the key, or
    None where nothing is forgotten. `memory` is float32 at least; outputs have the dtype of `v`. A padded token has
    `log_decay` 0 and key 0.
    """
    if torch.is_autocast_enabled(memory.device.type):  # it would round the memory
        with torch.autocast(memory.device.type, enabled=False):
            return recur(q, k, v, log_decay, memory)
    if q.shape[2] == 1:
        return _step(q, k, v, log_decay, memory)
    if log_decay is None:
        log_decay = memory.new_zeros(q.shape[1])
    return carry(FORM, memory, (q, k, v, log_decay), block=block_of(q, v, CHUNK))


def token_decay(log_decay: Tensor | None, k: Tensor, memory: Tensor) -> Tensor:
    """Any form of decay, per token, in the dtype of the memory."""
    if log_decay is None:
        return torch.zeros(k.shape[:3], device=k.device, dtype=memory.dtype)
    if log_decay.dim() == 1:
        log_decay = log_decay[:, None].expand(k.shape[:3])
    return log_decay.to(memory.dtype)


def chunk_of(q: Tensor, v: Tensor, most: int) -> int:
    """Tokens of a chunk: about twice the size of a head, so that neither the square nor the memory dominates."""
    return min(most, max(16, 1 << max(q.shape[-1], v.shape[-1]).bit_length()))


def block_of(q: Tensor, v: Tensor, most: int) -> int:
    """Tokens that are worked on at once: some chunks."""
    chunk, rows = chunk_of(q, v, most), q.shape[0] * q.shape[1]
    return chunk * max(1, IN_CACHE // (rows * chunk * max(chunk, q.shape[-1], v.shape[-1])))


def fold(
    memory: Tensor, q: Tensor, log_decay: Tensor, *rest: Tensor, chunk: int, halving: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Decay cumulated within each chunk, base 2, and q and the rest: (batch heads chunks token channel), memory's dtype.

    Tokens that fill the last chunk up are zeros that forget nothing. `halving` needs a power of two.
    """
    length, heads = q.shape[2], q.shape[1]
    chunks = -(-length // chunk)
    size = -(-length // chunks)
    if halving:
        size = 1 << (size - 1).bit_length()
    missing = chunks * size - length
    if log_decay.dim() == 1 and missing:
        log_decay = token_decay(log_decay, q, memory)
    parts = [q, *rest] if log_decay.dim() == 1 else [q, *rest, log_decay]
    parts = [x if x.dim() == 4 else x[..., None] for x in parts]
    if missing:
        parts = [F.pad(x, (0, 0, 0, missing)) for x in parts]
    parts = [x.to(memory.dtype).reshape(*x.shape[:2], chunks, size, x.shape[-1]) for x in parts]
    if log_decay.dim() == 1:
        steps = torch.arange(1, size + 1, device=q.device, dtype=memory.dtype)
        total = (log_decay.to(memory.dtype) * LOG2_E)[:, None] * steps
        return total.view(1, heads, 1, size, 1), tuple(parts)
    return (parts.pop() * LOG2_E).cumsum(3), tuple(parts)


def unfold(x: Tensor, axes: int, length: int) -> Tensor:
    """Back from chunks to four, three or one (heads) axes and to `length` tokens."""
    x = x.flatten(2, 3)[:, :, :length]
    return x.sum((0, 2, 3)) if axes == 1 else x.squeeze(-1) if axes == 3 else x


def gaps(total: Tensor) -> Tensor:
    """Decay from the token of a column to the later token of a row (1 above the diagonal), for a decay without channels."""
    return (total - total.mT).clamp_(max=0).exp2_()


def scan(memory: Tensor, added: Tensor, decay: Tensor, *, back: bool = False) -> tuple[Tensor, Tensor]:
    """The memory before each chunk and after the last; with `back`, from the last chunk to the first."""
    steps = list(zip(added.unbind(2), decay.expand(-1, -1, added.shape[2], -1, -1).unbind(2), strict=True))
    found = []
    for new, left in reversed(steps) if back else steps:
        found.append(memory)
        memory = torch.addcmul(new, left, memory)
    return torch.stack(found[::-1] if back else found, dim=2), memory


def _forward(memory: Tensor, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor) -> tuple[Tensor, Tensor]:
    length, chunk = q.shape[2], chunk_of(q, v, CHUNK)
    total, (q, k, v) = fold(memory, q, log_decay, k, v, chunk=chunk, halving=log_decay.dim() == 4)
    last = total[..., -1:, :]
    added = (k * (last - total).exp2()).mT @ v
    states, memory = scan(memory, added, last.mT.exp2())
    inside = _inside_channels if log_decay.dim() == 4 else _inside
    out = inside(q, k, v, total).add_((q * total.exp2()) @ states)
    return unfold(out, 4, length), memory


def _backward(
    memory: Tensor, inputs: Sequence[Tensor], d_out: Tensor, d_memory: Tensor, needs: Sequence[bool]
) -> Sequence[Tensor | None]:
    """Each product of `_forward` transposed; the decay's gradient from those of q and k, summed within a chunk only."""
    q, k, v, log_decay = inputs
    length, chunk, channels = q.shape[2], chunk_of(q, v, CHUNK), log_decay.dim() == 4
    total, (q, k, v, d_out) = fold(memory, q, log_decay, k, v, d_out, chunk=chunk, halving=channels)
    last = total[..., -1:, :]
    grown, left, decay = total.exp2(), (last - total).exp2(), last.mT.exp2()
    kept = k * left
    before, _ = scan(memory, kept.mT @ v, decay)
    after, d_memory = scan(d_memory, (q * grown).mT @ d_out, decay, back=True)
    d_kept = v @ after.mT
    inside = _inside_channels_backward if channels else _inside_backward
    d_q, d_k, d_v = inside(q, k, v, total, d_out)
    d_q = torch.addcmul(d_q, d_out @ before.mT, grown)
    d_k = torch.addcmul(d_k, d_kept, left)
    d_v += kept @ after
    d_decay = None
    if needs[3]:
        d_total = q * d_q - k * d_k
        d_last = (d_kept * kept).sum(-2, keepdim=True) + ((after * before).sum(-1, keepdim=True) * decay).mT
        if log_decay.dim() < 4:
            d_total, d_last = d_total.sum(-1, keepdim=True), d_last.sum(-1, keepdim=True)
        d_total[..., -1:, :] += d_last
        d_decay = unfold(d_total.flip(3).cumsum(3).flip(3), log_decay.dim(), length)
    return d_memory, *(unfold(d, 4, length) for d in (d_q, d_k, d_v)), d_decay


FORM = Form(forward=_forward, backward=_backward)


def _inside(q: Tensor, k: Tensor, v: Tensor, total: Tensor) -> Tensor:
    return (q @ k.mT).mul_(gaps(total)).tril_() @ v


def _inside_backward(q: Tensor, k: Tensor, v: Tensor, total: Tensor, d_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    between = gaps(total)
    d_scores = (d_out @ v.mT).mul_(between).tril_()
    return d_scores @ k, d_scores.mT @ q, (q @ k.mT).mul_(between).tril_().mT @ d_out


def _inside_channels(q: Tensor, k: Tensor, v: Tensor, total: Tensor) -> Tensor:
    out = (q * k).sum(-1, keepdim=True) * v
    for half in _halves(total):
        later, earlier, _, _ = _across(q, k, total, half)
        _second(out, half).add_(later @ earlier.mT @ _first(v, half))
    return out


def _inside_channels_backward(
    q: Tensor, k: Tensor, v: Tensor, total: Tensor, d_out: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    itself = (v * d_out).sum(-1, keepdim=True)
    d_q, d_k, d_v = itself * k, itself * q, (q * k).sum(-1, keepdim=True) * d_out
    for half in _halves(total):
        later, earlier, grown, left = _across(q, k, total, half)
        above, values = _second(d_out, half), _first(v, half)
        d_scores = above @ values.mT
        _second(d_q, half).addcmul_(d_scores @ earlier, grown)
        _first(d_k, half).addcmul_(d_scores.mT @ later, left)
        _first(d_v, half).add_(earlier @ later.mT @ above)
    return d_q, d_k, d_v


def _halves(total: Tensor) -> list[int]:
    return [1 << power for power in range(total.shape[3].bit_length() - 1)]


def _first(x: Tensor, half: int) -> Tensor:
    """A view of the first half of every stretch of twice `half` tokens."""
    return x.unflatten(3, (-1, 2, half)).select(4, 0)


def _second(x: Tensor, half: int) -> Tensor:
    return x.unflatten(3, (-1, 2, half)).select(4, 1)


def _across(q: Tensor, k: Tensor, total: Tensor, half: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries of second halves and keys of first halves, both decayed to the boundary between, and these decays."""
    first, second = _first(total, half), _second(total, half)
    boundary = first[..., -1:, :]
    grown, left = (second - boundary).exp2(), (boundary - first).exp2()
    return _second(q, half) * grown, _first(k, half) * left, grown, left


def _step(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, memory: Tensor) -> tuple[Tensor, Tensor]:
    """One token: the equation, in as few calls as it takes."""
    dtype = v.dtype
    if q.dtype != memory.dtype or k.dtype != memory.dtype or dtype != memory.dtype:
        q, k, v = (x.to(memory.dtype) for x in (q, k, v))
    if log_decay is not None:
        decay = log_decay.to(memory.dtype).exp()
        decay = decay.mT if decay.dim() == 4 else decay[:, None, None] if decay.dim() == 1 else decay[..., None]
        memory = memory * decay
    memory = torch.addcmul(memory, k.mT, v)
    return (q @ memory).to(dtype), memory
