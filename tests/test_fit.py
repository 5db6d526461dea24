"""Kernels of test-time regression: descent in chunks and local ridge regression, against their equations."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from attime.attention.kernels import fit as fit_kernel
from attime.attention.kernels import ridge as ridge_kernel
from attime.attention.kernels.delta import recur_delta_naive
from attime.attention.kernels.fit import Fitted, descend, descend_naive, gain
from attime.attention.kernels.ridge import local_ridge, local_ridge_cg, local_ridge_naive


def _problem(widths: list[int], time: int = 21, dim: int = 4, rate: float = 0.1) -> tuple[list[Tensor], Fitted]:
    q, k = (F.normalize(torch.randn(2, 3, time, dim, dtype=torch.float64), dim=-1) for _ in range(2))
    v = torch.randn(2, 3, time, widths[-1], dtype=torch.float64)
    a, b, c = (torch.randn(2, 3, time, dtype=torch.float64) for _ in range(3))
    weights = [torch.randn(2, 3, *pair, dtype=torch.float64) for pair in zip([dim, *widths], widths, strict=False)]
    return [q, k, v, a.sigmoid() * rate, F.logsigmoid(b + 3), F.logsigmoid(c)], Fitted.start(weights)


def _all_close(ours: Fitted, theirs: Fitted) -> None:
    for a, b in zip(ours.tensors(), theirs.tensors(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("widths", [[5], [7, 5], [6, 7, 5]])
@pytest.mark.parametrize("chunk", [1, 4, 64])
@pytest.mark.parametrize("bounded", [False, True])
def test_chunks_are_the_equation(widths: list[int], chunk: int, bounded: bool) -> None:
    inputs, start = _problem(widths)
    bound = torch.rand(2, 3, 21, dtype=torch.float64) + 0.1 if bounded else None
    out, state = descend(*inputs, state=start, chunk=chunk, bound=bound)
    expected, end = descend_naive(*inputs, state=start, chunk=chunk, bound=bound)
    torch.testing.assert_close(out, expected)
    _all_close(state, end)


@pytest.mark.parametrize("long", [64, 2])
def test_gradients_through_state_and_inputs(long: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_kernel, "LONG", long)  # 2: most chunks are computed again in the backward pass
    inputs, start = _problem([6, 5])
    leaves = [x.requires_grad_() for x in (*inputs, *start.weights)]
    found = []
    for form in (descend, descend_naive):
        out, state = form(*inputs, state=start, chunk=4)
        total = out.square().sum()
        for x in (*state.weights, *state.momentum, *state.anchor):
            total = total + x.square().sum()
        found.append(torch.autograd.grad(total, leaves))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_steps_are_gradients_of_the_loss() -> None:
    (q, k, v, rate, log_keep, log_momentum), state = _problem([6, 5], time=1)
    with torch.enable_grad():
        leaves = [x.clone().requires_grad_() for x in state.weights]
        guess = (F.silu(k @ leaves[0]) * gain(leaves[0])) @ leaves[1]
        loss = ((guess - v).square().sum(-1) / 2 * rate).sum()
        slopes = torch.autograd.grad(loss, leaves)
    _, after = descend(q, k, v, rate, log_keep, log_momentum, state, chunk=8)
    for before, now, slope in zip(state.weights, after.weights, slopes, strict=True):
        torch.testing.assert_close(now, log_keep.exp()[..., None] * before - slope)


def test_one_matrix_is_the_gated_delta_rule() -> None:
    (q, k, v, rate, log_keep, _), state = _problem([4])
    none = torch.full_like(rate, -torch.inf)
    ours, end = descend(q, k, v, rate, log_keep, none, state, chunk=1)
    keep = log_keep.exp()
    theirs, memory = recur_delta_naive(q, k, keep[..., None] * v, log_keep, rate / keep, state.weights[0])
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(end.weights[0], memory)


def test_chunk_boundaries_stand_still_when_time_is_cut() -> None:
    inputs, state = _problem([6, 5])
    whole, end = descend(*inputs, state=state, chunk=8)
    pieces = []
    for piece in zip(*(x.split([3, 1, 6, 11], dim=2) for x in inputs), strict=True):
        out, state = descend(*piece, state=state, chunk=8)
        pieces.append(out)
    torch.testing.assert_close(torch.cat(pieces, dim=2), whole)
    _all_close(state, end)


def test_rows_at_different_places_of_their_chunks() -> None:
    inputs, start = _problem([6, 5])
    valid = torch.arange(9).expand(2, 9) < torch.tensor([[9], [4]])
    out, state = descend(*(x[:, :, :9] for x in inputs), state=start, chunk=4, valid=valid)
    assert state.filled.tolist() == [1, 0]
    more, _ = descend(*(x[:, :, 9:] for x in inputs), state=state, chunk=4)
    short = torch.cat([torch.arange(4), torch.arange(9, 21)])
    alone, _ = descend_naive(*(x[1:, :, short] for x in inputs), state=start.select(torch.tensor([1])), chunk=4)
    torch.testing.assert_close(torch.cat([out[1:, :, :4], more[1:]], dim=2), alone)


def test_equal_keys_do_not_overshoot() -> None:
    k = F.normalize(torch.ones(1, 1, 640, 8), dim=-1)
    v, rate = torch.ones(1, 1, 640, 8) * 100, torch.ones(1, 1, 640) / 64
    state = Fitted.start([torch.zeros(1, 1, 8, 8)])
    out, _ = descend(k, k, v, rate, rate * 0, torch.full_like(rate, -torch.inf), state, chunk=64)
    torch.testing.assert_close(out[0, 0, -1], v[0, 0, -1])


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ridge_kernel, "QUERIES", 4)
    monkeypatch.setattr(ridge_kernel, "KEYS", 5)
    monkeypatch.setattr(ridge_kernel, "FEW", 2)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("form", [local_ridge, local_ridge_cg])
@pytest.mark.parametrize(("time", "past", "holes"), [(9, 0, False), (1, 7, True), (2, 6, False), (11, 3, True)])
def test_local_ridge_is_the_equation(form, time: int, past: int, holes: bool) -> None:
    q, at = (torch.randn(2, 3, time, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    k = torch.randn(2, 3, past + time, 4, dtype=torch.float64, requires_grad=True)
    v = torch.randn(2, 3, past + time, 5, dtype=torch.float64, requires_grad=True)
    strength = (torch.rand(3, dtype=torch.float64) + 0.1).requires_grad_()
    kept = torch.arange(past + time).expand(2, -1) % 3 != 1 if holes else None
    found = []
    for each in (form, local_ridge_naive):
        out = each(q, at, k, v, strength, kept)
        found.append((out, *torch.autograd.grad((out**2).sum(), (q, at, k, v, strength))))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_huge_ridge_is_softmax_and_a_line_is_found() -> None:
    q, k, v = (torch.randn(1, 2, 30, 4, dtype=torch.float64) for _ in range(3))
    huge, tiny = torch.full((2,), 1e12, dtype=torch.float64), torch.full((2,), 1e-12, dtype=torch.float64)
    softmax = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)
    torch.testing.assert_close(local_ridge(q, q, k, v, huge), softmax)
    line = k @ torch.randn(4, 4, dtype=torch.float64)
    slope = torch.linalg.lstsq(k[0, 0], line[0, 0]).solution
    out = local_ridge(q[:, :1], q[:, :1], k[:, :1], line[:, :1], tiny[:1])
    torch.testing.assert_close(out[0, 0, 10:], q[0, 0, 10:] @ slope, rtol=1e-5, atol=1e-5)


def test_nothing_seen_is_finite() -> None:
    q, k = torch.randn(1, 1, 3, 4), torch.randn(1, 1, 3, 4)
    kept = torch.zeros(1, 3, dtype=torch.bool)
    assert bool(local_ridge(q, q, k, k, torch.ones(1), kept).isfinite().all())
