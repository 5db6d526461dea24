"""The recurrence kernels against their equations: numbers, gradients, states, lengths, dtypes, extremes."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from attime.attention.kernels import delta, recurrence
from attime.attention.kernels.carry import Form, carry
from attime.attention.kernels.delta import recur_delta, recur_delta_naive
from attime.attention.kernels.recurrence import recur, recur_naive

FORMS = {
    "plain": (recur, recur_naive, "none"),
    "head": (recur, recur_naive, "head"),
    "token": (recur, recur_naive, "token"),
    "channel": (recur, recur_naive, "channel"),
    "delta": (recur_delta, recur_delta_naive, "none"),
    "delta_head": (recur_delta, recur_delta_naive, "head"),
    "delta_token": (recur_delta, recur_delta_naive, "token"),
}
every_form = pytest.mark.parametrize("form", FORMS)
Kernel = Callable[..., tuple[Tensor, Tensor]]


@every_form
@pytest.mark.parametrize("length", [1, 2, 31, 64, 65, 300])
def test_fast_is_naive(form: str, length: int) -> None:
    fast, naive, _ = FORMS[form]
    x = inputs(form, length)
    for ours, theirs in zip(everything(fast, x), everything(naive, x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


@every_form
def test_random_shapes(form: str) -> None:
    fast, naive, _ = FORMS[form]

    @settings(max_examples=12, derandomize=True, deadline=None, database=None)
    @given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 150), st.integers(1, 9), st.integers(1, 9))
    def check(batch: int, heads: int, length: int, size: int, values: int) -> None:
        x = inputs(form, length, batch=batch, heads=heads, size=size, values=values)
        for ours, theirs in zip(everything(fast, x), everything(naive, x), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)

    check()


@every_form
@pytest.mark.parametrize(("dtype", "outputs", "gradients"), [(torch.float32, 1e-6, 5e-6), (torch.bfloat16, 5e-3, 2e-2)])
def test_precision(form: str, dtype: torch.dtype, outputs: float, gradients: float) -> None:
    """Against the equation in float64 from the same (rounded) inputs."""
    fast, naive, _ = FORMS[form]
    low = tuple(
        x.to(dtype) if place < 3 else x.float() for place, x in enumerate(inputs(form, 300, size=32, values=32))
    )
    for place, (ours, theirs) in enumerate(
        zip(everything(fast, low), everything(naive, tuple(x.double() for x in low)), strict=True)
    ):
        error = (ours.double() - theirs).norm() / theirs.norm()
        assert error <= (outputs if place < 2 else gradients), f"{error:.1e} at {place}"
        assert ours.dtype == (dtype if place in (0, 2, 3, 4) else torch.float32)


@every_form
def test_segments(form: str) -> None:
    """Any cutting, single tokens among it, gives the outputs, the memory and the gradients of one call."""
    fast, _, _ = FORMS[form]
    x = inputs(form, 150)
    whole = everything(fast, x)
    for cuts in ([1], [64, 65, 66], [3, 100], [149]):
        edges = [0, *cuts, 150]
        found = everything(lambda *x, edges=edges: cut(form, edges, x), x, arrange=False)
        for ours, theirs in zip(found, whole, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("form", ["head", "token", "channel", "delta_head", "delta_token"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_decays(form: str, dtype: torch.dtype) -> None:
    """Forgetting nothing, and everything at once, side by side: finite and right."""
    fast, naive, _ = FORMS[form]
    x = [part.to(dtype) for part in inputs(form, 150)]
    decay = x[3].clone()
    decay[..., ::3] = 0
    decay[..., 1::3] = -50
    x[3] = decay
    limit = 1e-10 if dtype == torch.float64 else 1e-4
    for ours, theirs in zip(everything(fast, x), everything(naive, [part.double() for part in x]), strict=True):
        assert bool(ours.isfinite().all())
        assert (ours.double() - theirs).norm() <= limit * theirs.norm()


@pytest.mark.parametrize("form", ["token", "channel", "delta_token"])
def test_gradients_of_gradients(form: str) -> None:
    fast, naive, _ = FORMS[form]
    x = inputs(form, 9, batch=1, heads=1, size=2, values=2)
    found = []
    for kernel in (fast, naive):
        leaves = [part.clone().requires_grad_() for part in x]
        out, memory = arranged(kernel, leaves)
        first = torch.autograd.grad(out.square().sum() + memory.sum(), leaves, create_graph=True)
        found.append(torch.autograd.grad(torch.cat([each.flatten() for each in first]).square().sum(), leaves))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)


@every_form
def test_block_size_changes_nothing(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fast, _, _ = FORMS[form]
    x = inputs(form, 300)
    before = everything(fast, x)
    monkeypatch.setattr(recurrence, "IN_CACHE", 1 << 10)
    monkeypatch.setattr(recurrence, "CHUNK", 8)
    monkeypatch.setattr(delta, "CHUNK", 8)
    for ours, theirs in zip(everything(fast, x), before, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


@every_form
def test_autocast_leaves_the_memory_alone(form: str) -> None:
    fast, _, _ = FORMS[form]
    for length in (1, 70):
        x = [part.float() for part in inputs(form, length)]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cast = everything(fast, x)
        count = 2 if length == 1 else len(cast)  # a single token is differentiated by autograd, under autocast here
        for ours, theirs in zip(cast[:count], everything(fast, x)[:count], strict=True):
            torch.testing.assert_close(ours, theirs)


@every_form
def test_strided_inputs(form: str) -> None:
    """Heads split off a projection, not contiguous: the same numbers; inputs are left as they were."""
    fast, _, _ = FORMS[form]
    x = inputs(form, 90)
    strided = [part.transpose(1, 2).contiguous().transpose(1, 2) if part.dim() > 2 else part for part in x]
    copies = [part.clone() for part in strided]
    for ours, theirs in zip(everything(fast, strided), everything(fast, x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)
    for part, copy in zip(strided, copies, strict=True):
        assert torch.equal(part, copy)


def test_delta_overwrites() -> None:
    """A key written twice with beta 1 holds the second value alone."""
    k = F.normalize(torch.randn(1, 1, 1, 8, dtype=torch.float64), dim=-1).expand(-1, -1, 2, -1)
    v = torch.randn(1, 1, 2, 4, dtype=torch.float64)
    out, _ = recur_delta(k, k, v, None, torch.ones(1, 1, 2).double(), torch.zeros(1, 1, 8, 4).double())
    torch.testing.assert_close(out, v)


def test_delta_with_large_steps_stays_bounded() -> None:
    """beta 2 reflects: one key written without end neither grows nor loses precision."""
    k = torch.zeros(1, 1, 2000, 8)
    k[..., 0] = 1
    v = torch.ones(1, 1, 2000, 4)
    out, _ = recur_delta(k, k, v, None, torch.full((1, 1, 2000), 2.0), torch.zeros(1, 1, 8, 4))
    torch.testing.assert_close(out[:, :, 0::2], torch.full((1, 1, 1000, 4), 2.0))
    torch.testing.assert_close(out[:, :, 1::2], torch.zeros(1, 1, 1000, 4))


def test_carry_differentiates_a_form_without_a_backward() -> None:
    """A new recurrence needs its forward only: here a running sum of values."""

    def forward(memory: Tensor, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        sums = v.cumsum(2) + memory
        return q * k * sums, sums[:, :, -1:]

    q, k, v = (torch.randn(1, 2, 23, 3).double().requires_grad_() for _ in range(3))
    memory = torch.zeros(1, 2, 1, 3).double().requires_grad_()
    out, last = carry(Form(forward=forward), memory, (q, k, v), block=5)
    sums = v.cumsum(2) + memory
    expected = q * k * sums
    ours = torch.autograd.grad(out.square().sum() + last.sum(), (q, k, v, memory))
    theirs = torch.autograd.grad(expected.square().sum() + sums[:, :, -1:].sum(), (q, k, v, memory))
    torch.testing.assert_close(out, expected)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def inputs(
    form: str, length: int, *, batch: int = 2, heads: int = 3, size: int = 6, values: int = 5
) -> tuple[Tensor, ...]:
    """q, k, v, then what the form needs of (log decay, beta), then the memory; float64."""
    _, _, kind = FORMS[form]
    torch.manual_seed(length)
    q, k, v = (torch.randn(batch, heads, length, each).double() for each in (size, size, values))
    shape = {"none": None, "head": (heads,), "token": (batch, heads, length), "channel": (batch, heads, length, size)}[
        kind
    ]
    more = [] if shape is None else [-0.3 * torch.rand(shape).double()]
    if form.startswith("delta"):
        k = F.normalize(k, dim=-1)
        more.append(torch.rand(batch, heads, length).double())
    return q, k, v, *more, torch.randn(batch, heads, size, values).double()


def arranged(kernel: Kernel, x: tuple[Tensor, ...] | list[Tensor]) -> tuple[Tensor, Tensor]:
    """Call with None for the decay where there is none."""
    q, k, v, *more, memory = x
    slots = 2 if kernel in (recur_delta, recur_delta_naive) else 1
    return kernel(q, k, v, *[None] * (slots - len(more)), *more, memory)


def cut(form: str, edges: list[int], x: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """The kernel called on one stretch after another."""
    *rest, memory = x
    outputs = []
    for start, stop in pairwise(edges):
        here = [part[:, :, start:stop] if part.dim() > 2 else part for part in rest]
        out, memory = arranged(FORMS[form][0], [*here, memory])
        outputs.append(out)
    return torch.cat(outputs, dim=2), memory


def everything(kernel: Kernel, x: tuple[Tensor, ...] | list[Tensor], *, arrange: bool = True) -> list[Tensor]:
    """Outputs, the memory after, and the gradients of every input, through both."""
    leaves = [part.detach().clone().requires_grad_() for part in x]
    out, memory = arranged(kernel, leaves) if arrange else kernel(*leaves)
    weight = torch.linspace(-1, 1, out.numel()).view(out.shape).to(out)
    other = torch.linspace(1, 2, memory.numel()).view(memory.shape).to(memory)
    gradients = torch.autograd.grad((out * weight).sum() + (memory * other).sum(), leaves)
    return [out.detach(), memory.detach(), *gradients]
