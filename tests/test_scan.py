"""Scans: fast forms give the numbers, states and gradients of the equations; the short convolution likewise."""

import pytest
import torch
from torch import Tensor

from attime.attention.kernels import scan as kernels
from attime.attention.kernels.scan import convolve, scan, scan_naive, selective_scan, selective_scan_naive
from attime.attention.short_conv import short_conv

DOUBLE = torch.float64


def same(fast, slow, inputs: list[Tensor]) -> None:
    """Two functions agree in outputs, end state and the gradients of every input."""
    inputs = [each.requires_grad_() for each in inputs]
    results = []
    for form in (fast, slow):
        outputs = form(*inputs)
        loss = torch.stack(
            [(each.abs().square() * torch.arange(1, each.shape[-1] + 1)).sum() for each in outputs]
        ).sum()
        results.append((*outputs, *torch.autograd.grad(loss, inputs)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("few", [0, 1 << 30], ids=["one_level", "two_levels"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("time", [1, 2, 17, 40, 101])
def test_scan(time: int, dtype: torch.dtype, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "FEW", few)
    a = torch.rand(2, time, 3, 4, dtype=DOUBLE).to(dtype)
    if dtype.is_complex:
        a = a * torch.exp(1j * torch.randn(2, time, 3, 4, dtype=DOUBLE))
    b, state = torch.randn(2, time, 3, 4, dtype=dtype), torch.randn(2, 3, 4, dtype=dtype)
    same(scan, scan_naive, [a, b, state])
    same(scan, scan_naive, [a[:, :1, :1].detach().clone(), b.detach(), state.detach()])  # one decay for all


def test_scan_is_differentiable_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "FEW", 1 << 30)
    a, b = (torch.rand(1, 18, 1, dtype=DOUBLE, requires_grad=True) for _ in range(2))
    state = torch.rand(1, 1, dtype=DOUBLE, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda *each: scan(*each)[0], (a, b, state))


def test_scan_survives_long_decays_and_zeros() -> None:
    a = torch.rand(1, 5000, 8) * 0.5  # products underflow
    a[:, 1234] = 0
    b, state = torch.randn(1, 5000, 8), torch.full((1, 8), 1e30)
    torch.testing.assert_close(scan(a, b, state)[0], scan_naive(a, b, state)[0])
    assert torch.equal(scan(a, b, state)[0][:, 1234], b[:, 1234])


@pytest.mark.parametrize("cached", [1, 1 << 17], ids=["blocks_of_8", "blocks_of_64"])
@pytest.mark.parametrize("time", [1, 2, 9, 130])
def test_selective_scan(time: int, cached: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "CACHED", cached)
    x, step = torch.randn(2, time, 5, dtype=DOUBLE), torch.rand(2, time, 5, dtype=DOUBLE)
    write, read = torch.randn(2, time, 3, dtype=DOUBLE), torch.randn(2, time, 3, dtype=DOUBLE)
    rate, memory = -3 * torch.rand(3, 5, dtype=DOUBLE), torch.randn(2, 3, 5, dtype=DOUBLE)
    same(selective_scan, selective_scan_naive, [x, step, rate, write, read, memory])


def test_selective_scan_keeps_one_state_per_block() -> None:
    time, slots, dim = 256, 16, 64
    inputs = [torch.rand(1, time, width, requires_grad=True) for width in (dim, dim, slots, slots)]
    x, step, write, read = inputs
    held = []
    with torch.autograd.graph.saved_tensors_hooks(lambda each: held.append(each.numel()) or each, lambda each: each):
        selective_scan(x, step, -torch.rand(slots, dim), write, read, torch.zeros(1, slots, dim))
    assert sum(held) < 8 * time * dim < time * slots * dim


def test_convolve_is_the_recurrence_whatever_the_block() -> None:
    time, dim, slots = 29, 3, 2
    change, enter = 0.9 * torch.rand(dim, slots, dtype=DOUBLE), torch.randn(dim, slots, dtype=DOUBLE)
    read, x = torch.randn(dim, slots, dtype=DOUBLE), torch.randn(2, time, dim, dtype=DOUBLE)
    start = torch.randn(2, dim, slots, dtype=DOUBLE)
    valid = torch.arange(time) < torch.tensor([[time], [11]])
    states, _ = scan_naive(change[None, None], x[..., None] * enter, start)
    for block in (1, 4, 7, 29, 64):
        lags = torch.arange(block)[:, None]
        written, seen = enter[:, None] * change[:, None] ** lags, read[:, None] * change[:, None] ** (lags + 1)

        def advance(state: Tensor, tokens: int | Tensor) -> Tensor:
            return state * change ** (tokens if isinstance(tokens, int) else tokens[:, None, None])

        kernel = (written * read[:, None]).sum(-1)
        y, end = convolve(x, kernel, seen, written, advance, start)
        torch.testing.assert_close(y, (states * read).sum(-1))
        torch.testing.assert_close(end, states[:, -1])
        _, end = convolve(x * valid[..., None], kernel, seen, written, advance, start, valid)
        torch.testing.assert_close(end, torch.stack([states[0, -1], states[1, 10]]))


@pytest.mark.parametrize("width", [1, 2, 4])
def test_short_conv(width: int) -> None:
    x, weight = torch.randn(2, 9, 5, dtype=DOUBLE), torch.randn(5, width, dtype=DOUBLE)
    past = torch.randn(2, width - 1, 5, dtype=DOUBLE)
    window = torch.cat([past, x], dim=1)
    expected = (window.unfold(1, width, 1) * weight).sum(-1)
    y, end = short_conv(x, weight, past)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(end, window[:, 9:])
    state, pieces = past, []
    for piece in x.split([3, 1, 5], dim=1):
        y, state = short_conv(piece, weight, state)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, dim=1), expected)
    valid = torch.arange(9) < torch.tensor([[9], [2]])
    _, ragged = short_conv(x, weight, past, valid)
    torch.testing.assert_close(ragged, torch.stack([window[0, 9:], window[1, 2 : 1 + width]]))
    low, low_end = short_conv(x.bfloat16(), weight.float(), past.float())
    assert (low.dtype, low_end.dtype) == (torch.bfloat16, torch.float32)
    assert (low - expected).norm() < 0.02 * expected.norm()
