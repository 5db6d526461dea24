r"""Linear recurrences whose state is a vector: diagonal, time-invariant, and selective.

    scan            x_t = a_t x_{t-1} + b_t                                                  real or complex
    convolve        s_t = A s_{t-1} + B x_t,    y_t = C s_t                                  A, B, C fixed in time
    selective_scan  s_t = exp(step_t rate) s_{t-1} + step_t write_t x_t,    y_t = read_t s_t

Source:  blocks of a scan: Blelloch, Prefix sums and their applications, 1990; convolution: LSSL, arXiv 2110.13985, sec.
         3.1 and S4, arXiv 2111.00396; selective scan: Mamba, arXiv 2312.00752, alg. 2 and sec. 3.3.2 (recomputation).
Cost:    scan O(T) in T or 3 sqrt(T) steps; convolve O(T log block); selective_scan O(T state dim), of which it keeps one
         state per block for the backward pass.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Inexact
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["convolve", "scan", "scan_naive", "selective_scan", "selective_scan_naive"]

Steps = Inexact[Tensor, "batch time *state"]
Weights = Inexact[Tensor, "#batch #time *#state"]
Start = Inexact[Tensor, "batch *state"]
Tokens = Float[Tensor, "batch time dim"]
Slots = Float[Tensor, "batch time slots"]
Rate = Float[Tensor, "slots dim"]
Memory = Float[Tensor, "batch slots dim"]

# machine constants
FEW = 6144  # bytes: states smaller than this are bound by the number of steps, larger ones by memory traffic
CACHED = 1 << 17  # numbers in a block that stay in cache


def scan_naive(a: Weights, b: Steps, state: Start) -> tuple[Steps, Start]:
    """The equation, one token at a time: every state, and the last one."""
    states = []
    for a_t, b_t in zip(a.expand_as(b).unbind(1), b.unbind(1), strict=True):
        state = a_t * state + b_t
        states.append(state)
    return torch.stack(states, dim=1), state


def scan(a: Weights, b: Steps, state: Start) -> tuple[Steps, Start]:
    """The same numbers in fewer, larger steps, with a backward pass that is a scan too (differentiable twice)."""
    if b.shape[1] == 1:
        state = torch.addcmul(b[:, 0], a.expand_as(b)[:, 0], state)
        return state[:, None], state
    states: Tensor = _Scan.apply(a.expand_as(b), b, state, False)  # pyright: ignore[reportAssignmentType]
    return states, states[:, -1]


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, state: Tensor, backwards: bool) -> Tensor:
        states = torch.empty_like(b, memory_format=torch.contiguous_format)
        few = b.is_cuda or state.numel() * state.element_size() < FEW
        (_two_levels if few and b.shape[1] > 16 else _one_level)(a, b, state, states, backwards)
        ctx.save_for_backward(a, state, states)
        ctx.backwards = backwards
        return states

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        a, state, states = ctx.saved_tensors
        zero = torch.zeros_like(state)[:, None]
        if ctx.backwards:
            later = torch.cat([zero, a[:, :-1]], dim=1)
            before = torch.cat([states[:, 1:], state[:, None]], dim=1)
        else:
            later = torch.cat([a[:, 1:], zero], dim=1)
            before = torch.cat([state[:, None], states[:, :-1]], dim=1)
        to_b: Tensor = _Scan.apply(later.conj(), gradient, zero[:, 0], not ctx.backwards)  # pyright: ignore
        to_a = to_b * before.conj() if ctx.needs_input_grad[0] else None
        first = -1 if ctx.backwards else 0
        return to_a, to_b, a[:, first].conj() * to_b[:, first], None


def _one_level(a: Tensor, b: Tensor, state: Tensor, out: Tensor, backwards: bool) -> None:
    rows = list(zip(a.unbind(1), b.unbind(1), out.unbind(1), strict=True))
    for a_t, b_t, out_t in reversed(rows) if backwards else rows:
        state = torch.addcmul(b_t, a_t, state, out=out_t)


def _two_levels(a: Tensor, b: Tensor, state: Tensor, out: Tensor, backwards: bool) -> None:
    """All blocks of about sqrt(time) tokens side by side from zero, then the states between blocks, then their effect."""
    size = math.isqrt(b.shape[1])
    rest = b.shape[1] % size
    if rest:  # the last block in scanning order is a short one
        time = b.shape[1] - rest
        main, tail = (slice(rest, None), slice(rest)) if backwards else (slice(time), slice(time, None))
        _two_levels(a[:, main], b[:, main], state, out[:, main], backwards)
        edge = out[:, main][:, 0 if backwards else -1]
        return _one_level(a[:, tail], b[:, tail], edge, out[:, tail], backwards)
    a, b, out = (each.unflatten(1, (-1, size)) for each in (a, b, out))
    decays = torch.empty_like(out)
    rows = list(zip(a.unbind(2), b.unbind(2), out.unbind(2), decays.unbind(2), strict=True))
    (a_t, b_t, last, decay), *rows = reversed(rows) if backwards else rows
    last.copy_(b_t)
    decay.copy_(a_t)
    for a_t, b_t, out_t, decay_t in rows:
        last, decay = torch.addcmul(b_t, a_t, last, out=out_t), torch.mul(a_t, decay, out=decay_t)
    entering = torch.empty_like(last)
    edges = list(zip(last.unbind(1), decay.unbind(1), entering.unbind(1), strict=True))
    for last_s, decay_s, entering_s in reversed(edges) if backwards else edges:
        entering_s.copy_(state)
        state = torch.addcmul(last_s, decay_s, state)
    out.addcmul_(decays, entering.unsqueeze(2))
    return None


def convolve(
    x: Tokens,
    kernel: Float[Tensor, "dim block"],
    read: Inexact[Tensor, "dim block slots"],
    write: Inexact[Tensor, "dim block slots"],
    advance: Callable[[Tensor, int | Tensor], Tensor],
    state: Inexact[Tensor, "batch dim slots"],
    valid: Bool[Tensor, "batch time"] | None = None,
) -> tuple[Tokens, Inexact[Tensor, "batch dim slots"]]:
    """Outputs and end state of a fixed linear system, one per channel, as long as the clip is: FFT within a block.

    `kernel[:, k] = C A^k B`, `read[:, k] = C A^(k+1)`, `write[:, k] = A^k B`, and `advance(state, n) = A^n state` for one n
    or for one per row. The real part of what is read counts. `valid` is a prefix in each row.
    """
    block, outputs = kernel.shape[1], []
    left = None if valid is None else valid.sum(1)
    for x_c in x.split(block, dim=1):
        length = x_c.shape[1]
        size = 1 << (2 * length - 2).bit_length()  # no wrapping around
        spectrum = torch.fft.rfft(x_c, size, dim=1) * torch.fft.rfft(kernel[:, :length], size, dim=1).mT
        y = torch.fft.irfft(spectrum, size, dim=1)[:, :length]
        past = torch.einsum("bdn,dtn->btd", state, read[:, :length])
        outputs.append(y + (past.real if past.is_complex() else past))
        tokens = length
        if left is not None:  # padding first and zero: it then adds nothing to the state
            tokens = left.clamp(0, length)
            place = torch.arange(length, device=x.device) - (length - tokens)[:, None]
            x_c = x_c.gather(1, place.clamp(min=0)[..., None].expand_as(x_c)) * (place >= 0)[..., None]
            left = left - tokens
        added = torch.einsum("btd,dtn->bdn", x_c.flip(1).to(write.dtype), write[:, :length])
        state = advance(state, tokens) + added
    return torch.cat(outputs, dim=1), state


def selective_scan_naive(
    x: Tokens, step: Tokens, rate: Rate, write: Slots, read: Slots, memory: Memory
) -> tuple[Tokens, Memory]:
    """The equation, one token at a time. `rate` is negative; a `step` of zero leaves the memory as it is."""
    outputs = []
    for x_t, step_t, write_t, read_t in zip(*(each.unbind(1) for each in (x, step, write, read)), strict=True):
        memory = (step_t[:, None] * rate).exp() * memory + write_t[..., None] * (step_t * x_t)[:, None]
        outputs.append((read_t[..., None] * memory).sum(1))
    return torch.stack(outputs, dim=1), memory


def selective_scan(
    x: Tokens, step: Tokens, rate: Rate, write: Slots, read: Slots, memory: Memory
) -> tuple[Tokens, Memory]:
    """The same numbers; decays and states of a few tokens at a time, made anew in the backward pass."""
    if x.shape[1] == 1:
        decay = (step * rate).exp()
        memory = torch.addcmul(write[:, 0, :, None] * (step * x), decay, memory)
        return (read[:, 0, :, None] * memory).sum(1, keepdim=True), memory
    with torch.autocast(x.device.type, enabled=False):
        return _Selective.apply(x, step, rate, write, read, memory)  # pyright: ignore[reportReturnType]


class _Selective(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, rate: Tensor, write: Tensor, read: Tensor, memory: Tensor):
        size = max(8, min(64, CACHED // memory.numel()))
        outputs, starts = torch.empty_like(x), []
        states = x.new_empty((x.shape[0], min(size, x.shape[1]), *rate.shape))
        decays = torch.empty_like(states)
        parts = zip(*(each.split(size, dim=1) for each in (x, step, write, read, outputs)), strict=True)
        for x_c, step_c, write_c, read_c, out_c in parts:
            starts.append(memory)
            state = _block(x_c, step_c, rate, write_c, memory, decays, states)[1]
            memory = state[:, -1].clone()
            out_c.copy_((read_c[:, :, None] @ state).squeeze(2))
        ctx.save_for_backward(x, step, rate, write, read, *starts)
        return outputs, memory

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_out: Tensor, to_memory: Tensor):  # pyright: ignore
        x, step, rate, write, read, *starts = ctx.saved_tensors
        size = max(8, min(64, CACHED // to_memory.numel()))
        gradients = [torch.empty_like(each) for each in (x, step, write, read)]
        to_rate, carry = torch.zeros_like(rate), to_memory.clone()
        decays = x.new_empty((x.shape[0], min(size, x.shape[1]), *rate.shape))
        states, to_states, spare = (torch.empty_like(decays) for _ in range(3))
        cut = [each.split(size, dim=1) for each in (x, step, write, read, to_out, *gradients)]
        with torch.autocast(x.device.type, enabled=False):
            for start, part in zip(reversed(starts), reversed(list(zip(*cut, strict=True))), strict=True):
                x_c, step_c, write_c, read_c, to_out_c, to_x, to_step, to_write, to_read = part
                decay, state = _block(x_c, step_c, rate, write_c, start, decays, states)
                to_state = torch.mul(read_c[..., None], to_out_c[:, :, None], out=to_states[:, : x_c.shape[1]])
                to_later, *rows = zip(to_state.unbind(1)[::-1], decay.unbind(1)[::-1], strict=True)
                to_later[0].add_(carry)
                for to_state_t, decay_t in rows:
                    to_later = to_state_t.addcmul_(*to_later), decay_t
                torch.mul(*to_later, out=carry)
                scratch = spare[:, : x_c.shape[1]]
                to_read.copy_(torch.mul(state, to_out_c[:, :, None], out=scratch).sum(-1))
                to_write.copy_(torch.mul(to_state, (step_c * x_c)[:, :, None], out=scratch).sum(-1))
                to_input = (write_c[:, :, None] @ to_state).squeeze(2)
                to_decay = decay.mul_(to_state)  # times the state before
                to_decay[:, 1:].mul_(state[:, :-1])
                to_decay[:, 0].mul_(start)
                to_x.copy_(to_input * step_c)
                to_step.copy_(to_input * x_c + torch.mul(to_decay, rate, out=scratch).sum(2))
                to_rate += torch.mul(to_decay, step_c[:, :, None], out=scratch).sum((0, 1))
        to_x, to_step, to_write, to_read = gradients
        return to_x, to_step, to_rate, to_write, to_read, carry


def _block(x: Tensor, step: Tensor, rate: Tensor, write: Tensor, memory: Tensor, decays: Tensor, states: Tensor):
    """Decays and states of a few tokens, written into buffers that are used again."""
    decay = torch.mul(step[:, :, None], rate, out=decays[:, : x.shape[1]]).exp_()
    state = torch.mul(write[..., None], (step * x)[:, :, None], out=states[:, : x.shape[1]])
    for decay_t, state_t in zip(decay.unbind(1), state.unbind(1), strict=True):
        memory = state_t.addcmul_(decay_t, memory)
    return decay, state
