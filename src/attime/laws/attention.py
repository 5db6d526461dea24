"""Laws of the attention room: what `mixer(x, state) -> (y, state)` promises."""

import copy
import warnings
from itertools import pairwise

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from attime.attention.contract import Mixer
from attime.laws.contract import Law

__all__ = ["LAWS"]

LENGTH = 13  # odd, prime, longer than every example's window
EXACT = (1e-7, 1e-8)  # rtol, atol in float64


def any_chunking_agrees(mixer: Mixer) -> None:
    """Cutting time anywhere gives the outputs, the final state and the gradients of one call."""
    mixer.double().eval()
    x = _clip(mixer).requires_grad_()
    whole, end = mixer(x)
    (expected,) = torch.autograd.grad(whole.square().sum(), x, retain_graph=True)

    @_few(12)
    @given(st.sets(st.integers(1, x.shape[1] - 1)))
    def check(cuts: set[int]) -> None:
        edges = [0, *sorted(cuts), x.shape[1]]
        state, outputs = None, []
        for start, stop in pairwise(edges):
            y, state = mixer(x[:, start:stop], state)
            outputs.append(y)
        pieces = torch.cat(outputs, dim=1)
        _close(pieces, whole, f"outputs change when time is cut at {sorted(cuts)}")
        (gradient,) = torch.autograd.grad(pieces.square().sum(), x, retain_graph=True)
        _close(gradient, expected, f"gradients change when time is cut at {sorted(cuts)}")
        more = _clip(mixer, seed=2)[:, :3]
        _close(
            mixer(more, state)[0],
            mixer(more, end)[0],
            f"the state after cuts at {sorted(cuts)} continues differently",
        )

    check()


def past_ignores_future(mixer: Mixer) -> None:
    """Changing a token leaves every earlier output exactly as it was."""
    mixer.double().eval()
    x = _clip(mixer)
    before, _ = mixer(x)

    @_few(6)
    @given(st.integers(1, x.shape[1] - 1))
    def check(place: int) -> None:
        changed = x.clone()
        changed[:, place:] += 1 + torch.rand_like(changed[:, place:])
        after, _ = mixer(changed)
        torch.testing.assert_close(
            after[:, :place],
            before[:, :place],
            rtol=0,
            atol=1e-12,
            msg=f"outputs before token {place} moved when tokens from it on changed",
        )

    check()


def last_token_is_seen(mixer: Mixer) -> None:
    """Every output depends on its own token, and the outputs on more than their own tokens."""
    mixer.double().eval()
    x = _clip(mixer)
    before, _ = mixer(x)
    moved = x.clone()
    moved[:, -1] += torch.randn_like(moved[:, -1])
    assert not torch.allclose(mixer(moved)[0][:, -1], before[:, -1]), "the last output ignores the last token"
    if x.shape[1] > 2 or mixer.traits.grid:
        moved = x.clone()
        moved[:, -2 if x.shape[1] > 1 else -1] += torch.randn_like(moved[:, -1])
        assert not torch.allclose(mixer(moved)[0][:, -1], before[:, -1]), "the last output ignores the token before it"


def padding_is_ignored(mixer: Mixer) -> None:
    """A row gives the same outputs, and the same future, alone as padded on any side beside a longer row."""
    mixer.double().eval()
    x = _clip(mixer)
    length = x.shape[1]

    @_few(8)
    @given(st.sets(st.integers(0, length - 1), min_size=1, max_size=length - 1))
    def check(padded: set[int]) -> None:
        valid = torch.ones(x.shape[:2], dtype=torch.bool)
        valid[0, sorted(padded)] = False
        rubbish = torch.where(valid[..., None], x, torch.full_like(x, 1e3))
        y, state = mixer(rubbish, valid=valid)
        alone, alone_state = mixer(x[:1, valid[0]])
        assert bool((y[~valid] == 0).all()), "outputs at padding are not zero"
        _close(y[:1][:, valid[0]], alone, f"row with padding at {sorted(padded)} differs from the row alone")
        _close(y[1:], mixer(x[1:])[0], "padding in one row changed another row")
        if mixer.traits.causal:
            more = _clip(mixer, seed=2)[:, :5]
            _close(
                mixer(more, state)[0][:1],
                mixer(more[:1], alone_state)[0],
                f"after padding at {sorted(padded)} the stream goes on differently",
            )

    check()


def rows_are_independent(mixer: Mixer) -> None:
    """A batch gives what its rows give alone; selecting rows of the state goes on with those rows."""
    mixer.double().eval()
    x, more = _clip(mixer), _clip(mixer, seed=2)
    y, state = mixer(x)
    _close(y[1:], mixer(x[1:])[0], "a row's outputs depend on the other rows of the batch")
    if mixer.traits.causal:
        order = torch.tensor([1, 0, 1])
        _close(
            mixer(more[order], state.select(order))[0],
            mixer(more, state)[0][order],
            "state.select does not follow its rows",
        )


def state_is_a_value(mixer: Mixer) -> None:
    """A state can be kept, branched from and fed again: using it does not change it."""
    mixer.double().eval()
    x, one, other = _clip(mixer), _clip(mixer, seed=2), _clip(mixer, seed=3)
    with torch.no_grad():
        _, state = mixer(x)
        first, branch = mixer(one[:, :1], state)
        mixer(other, state)
        again, _ = mixer(one[:, :1], state)
        _close(again, first, "feeding one state twice gives two answers", exact=True)
        expected, _ = mixer(torch.cat([x, one[:, :1], other], dim=1))
        _close(mixer(other, branch)[0], expected[:, x.shape[1] + 1 :], "a second branch disturbed the first")
    assert not any(tensor.requires_grad for tensor in mixer(x)[1].detach().tensors()), "state.detach() keeps gradients"


def bounded_state_stays_bounded(mixer: Mixer) -> None:
    """A long past and one four times as long leave states of the same size."""
    mixer.eval()
    sizes = []
    with torch.no_grad():
        for repeats in (6, 24):
            state = None
            for _ in range(repeats):
                _, state = mixer(_clip(mixer, dtype=torch.float32), state)
            assert state is not None
            sizes.append(state.nbytes)
    assert sizes[0] == sizes[1], f"state grew from {sizes[0]} to {sizes[1]} bytes; do not claim bounded=True"


def fast_is_reference(mixer: Mixer) -> None:
    """The fast form gives the numbers and the gradients of the equation, also on a longer clip."""
    mixer.double().eval()
    for x in (_clip(mixer), _clip(mixer, long=True)):
        x = x.requires_grad_()
        weights = [weight for weight in mixer.parameters() if weight.requires_grad]
        results = []
        for form in (lambda clip: mixer(clip)[0], mixer.reference):
            y = form(x)
            results.append((y, torch.autograd.grad(y.square().sum(), [x, *weights], allow_unused=True)))
        (fast, fast_gradients), (slow, slow_gradients) = results
        _close(fast, slow, f"the fast form differs from the reference at length {x.shape[1]}")
        for ours, theirs in zip(fast_gradients, slow_gradients, strict=True):
            assert (ours is None) == (theirs is None), "a weight has a gradient in only one of the two forms"
            if ours is not None and theirs is not None:
                _close(
                    ours,
                    theirs,
                    "a gradient of the fast form differs from the reference",
                    rtol=1e-6,
                    atol=1e-7,
                )


def every_weight_learns(mixer: Mixer) -> None:
    """Every weight gets a gradient that is finite and not zero everywhere."""
    mixer.double().train()
    y, _ = mixer(_clip(mixer, long=True))
    (y * torch.randn_like(y)).sum().backward()
    for name, weight in mixer.named_parameters():
        assert weight.grad is not None, f"{name} never learns"
        assert bool(weight.grad.abs().sum() > 0), f"{name} never learns"
        assert bool(weight.grad.isfinite().all()), f"the gradient of {name} is not finite"


def dtype_is_kept(mixer: Mixer) -> None:
    """float32 in, float32 out; bfloat16 likewise and near it; under autocast finite and near it."""
    mixer.float().eval()
    x = _clip(mixer, dtype=torch.float32)
    with torch.no_grad():
        y, state = mixer(x)
        assert y.dtype == torch.float32, f"float32 came out as {y.dtype}"
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cast, cast_state = mixer(x)
            cast_again, _ = mixer(x, cast_state)
        assert bool(torch.cat([cast, cast_again]).isfinite().all()), "not finite under autocast"
        low = copy.deepcopy(mixer).bfloat16()
        half, half_state = low(x.bfloat16())
        assert half.dtype == torch.bfloat16, f"bfloat16 came out as {half.dtype}"
        again, _ = low(x.bfloat16(), half_state)
        assert bool(again.isfinite().all()), "not finite in bfloat16 with a state"
    for name, other in (("autocast", cast), ("bfloat16", half)):
        error = (other.double() - y.double()).norm() / y.double().norm()
        assert error < 0.1, f"{name} is {error:.3f} away from float32 (relative)"
    if mixer.traits.causal:
        assert state is not None


def length_one_works(mixer: Mixer) -> None:
    """A single token, a single row: forward and gradients."""
    mixer.double().train()
    x = _clip(mixer)[:1, :1].requires_grad_()
    y, _ = mixer(x)
    assert y.shape == x.shape, f"shape {tuple(x.shape)} became {tuple(y.shape)}"
    y.square().sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


def large_inputs_stay_finite(mixer: Mixer) -> None:
    """Inputs of size 30 and a past of 200 tokens overflow nothing in float32, forward or backward."""
    mixer.float().train()
    x = torch.cat([_clip(mixer, dtype=torch.float32, seed=seed) for seed in range(16)], dim=1)
    x = (30 * x).requires_grad_()
    y, _ = mixer(x)
    y.square().mean().backward()
    assert x.grad is not None
    assert bool(y.isfinite().all()), "outputs are not finite"
    assert bool(x.grad.isfinite().all()), "gradients are not finite"


def cost_is_as_stated(mixer: Mixer) -> None:
    """`cost(length).state_bytes` is what the state really holds."""
    mixer.float().eval()
    with torch.no_grad():
        for length in (1, LENGTH, 5 * LENGTH):
            x = torch.cat([_clip(mixer, dtype=torch.float32)[:1]] * 5, dim=1)[:, :length]
            _, state = mixer(x)
            held = 0 if state is None else state.nbytes
            cost = mixer.cost(x.shape[1])
            assert cost.state_bytes == held, (
                f"cost({x.shape[1]}) states {cost.state_bytes} bytes of state; it holds {held}"
            )
            assert cost.operations > 0, "cost().operations is not positive"


def compiles(mixer: Mixer) -> None:
    """`torch.compile` traces the mixer and gives the same numbers (breaks in the graph are allowed)."""
    mixer.float().eval()
    x = _clip(mixer, dtype=torch.float32)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.compiler.reset()
        compiled = torch.compile(mixer, backend="eager", dynamic=False)
        y, state = compiled(x)
        expected, end = mixer(x)
        torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
        if mixer.traits.causal:
            torch.testing.assert_close(compiled(x, state)[0], mixer(x, end)[0], rtol=1e-4, atol=1e-5)


LAWS = (
    Law(any_chunking_agrees, needs=("causal",)),
    Law(past_ignores_future, needs=("causal",)),
    Law(state_is_a_value, needs=("causal",)),
    Law(bounded_state_stays_bounded, needs=("causal", "bounded")),
    Law(padding_is_ignored, needs=("valid",)),
    Law(last_token_is_seen),
    Law(rows_are_independent),
    Law(fast_is_reference),
    Law(every_weight_learns),
    Law(dtype_is_kept),
    Law(length_one_works),
    Law(large_inputs_stay_finite),
    Law(cost_is_as_stated),
    Law(compiles),
)


def _clip(mixer: Mixer, *, seed: int = 1, dtype: torch.dtype = torch.float64, long: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, 5, 7, 6, mixer.dim) if mixer.traits.grid else (2, 77 if long else LENGTH, mixer.dim)
    return torch.randn(shape, generator=generator, dtype=dtype)


def _close(
    ours: Tensor, theirs: Tensor, message: str, *, exact: bool = False, rtol: float = EXACT[0], atol: float = EXACT[1]
) -> None:
    rtol, atol = (0.0, 0.0) if exact else (rtol, atol)
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol, msg=lambda detail: f"{message}\n{detail}")


def _few(examples: int) -> settings:
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.nested_given],
    )
