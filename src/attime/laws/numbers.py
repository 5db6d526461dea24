"""Laws of a mixer's numbers: the fast form is the equation, every weight learns, dtypes, extremes, stated costs."""

import copy
import warnings

import torch

from attime.attention.contract import Mixer
from attime.laws.probes import LENGTH, clip, close

__all__ = [
    "compiles",
    "cost_is_as_stated",
    "dtype_is_kept",
    "every_weight_learns",
    "fast_is_reference",
    "large_inputs_stay_finite",
    "length_one_works",
]


def fast_is_reference(mixer: Mixer) -> None:
    """The fast form gives the numbers and the gradients of the equation, also on a longer clip."""
    mixer.double().eval()
    for x in (clip(mixer), clip(mixer, long=True)):
        x = x.requires_grad_()
        weights = [weight for weight in mixer.parameters() if weight.requires_grad]
        results = []
        for form in (lambda clip: mixer(clip)[0], mixer.reference):
            y = form(x)
            results.append((y, torch.autograd.grad(y.square().sum(), [x, *weights], allow_unused=True)))
        (fast, fast_gradients), (slow, slow_gradients) = results
        close(fast, slow, f"the fast form differs from the reference at length {x.shape[1]}")
        for ours, theirs in zip(fast_gradients, slow_gradients, strict=True):
            assert (ours is None) == (theirs is None), "a weight has a gradient in only one of the two forms"
            if ours is not None and theirs is not None:
                close(
                    ours,
                    theirs,
                    "a gradient of the fast form differs from the reference",
                    rtol=1e-6,
                    atol=1e-7,
                )


def every_weight_learns(mixer: Mixer) -> None:
    """Every weight gets a gradient that is finite and not zero everywhere."""
    mixer.double().train()
    y, _ = mixer(clip(mixer, long=True))
    (y * torch.randn_like(y)).sum().backward()
    for name, weight in mixer.named_parameters():
        assert weight.grad is not None, f"{name} never learns"
        assert bool(weight.grad.abs().sum() > 0), f"{name} never learns"
        assert bool(weight.grad.isfinite().all()), f"the gradient of {name} is not finite"


def dtype_is_kept(mixer: Mixer) -> None:
    """float32 in, float32 out; bfloat16 likewise and near it; under autocast finite and near it."""
    mixer.float().eval()
    x = clip(mixer, dtype=torch.float32)
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
    x = clip(mixer)[:1, :1].requires_grad_()
    y, _ = mixer(x)
    assert y.shape == x.shape, f"shape {tuple(x.shape)} became {tuple(y.shape)}"
    y.square().sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


def large_inputs_stay_finite(mixer: Mixer) -> None:
    """Inputs of size 30 and a past of 200 tokens overflow nothing in float32, forward or backward."""
    mixer.float().train()
    x = torch.cat([clip(mixer, dtype=torch.float32, seed=seed) for seed in range(16)], dim=1)
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
            x = torch.cat([clip(mixer, dtype=torch.float32)[:1]] * 5, dim=1)[:, :length]
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
    x = clip(mixer, dtype=torch.float32)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.compiler.reset()
        compiled = torch.compile(mixer, backend="eager", dynamic=False)
        y, state = compiled(x)
        expected, end = mixer(x)
        torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
        if mixer.traits.causal:
            torch.testing.assert_close(compiled(x, state)[0], mixer(x, end)[0], rtol=1e-4, atol=1e-5)
