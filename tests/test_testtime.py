"""Test-time learners beyond the laws: what they remember, what they forget, and what they refuse."""

import math

import pytest
import torch

from attime.attention.testtime import LocalLinear, NeuralMemory, RobustMemory
from attime.errors import AttimeError


@pytest.mark.parametrize("kind", [NeuralMemory, RobustMemory])
def test_state_is_three_times_the_network(kind: type) -> None:
    mixer = kind(32, heads=2, layers=2, expand=2)
    _, state = mixer(torch.randn(1, 40, 32))
    weights = 2 * (16 * 32 + 32 * 16)
    assert state.nbytes == 4 * (3 * weights + 3 * 96) + 8


@pytest.mark.parametrize("kind", [NeuralMemory, RobustMemory])
def test_stays_finite_over_a_long_wild_stream(kind: type) -> None:
    mixer = kind(16, layers=3, expand=2, chunk=64)
    with torch.no_grad():
        y, state = mixer(300 * torch.randn(1, 512, 16))
        for _ in range(3):
            y, state = mixer(300 * torch.randn(1, 512, 16), state)
    assert bool(y.isfinite().all())
    assert all(bool(each.isfinite().all()) for each in state.tensors())


def test_padding_in_the_middle_of_a_chunk() -> None:
    mixer = NeuralMemory(8, chunk=4).double()
    x = torch.randn(3, 30, 8, dtype=torch.float64)
    valid = torch.rand(3, 30) > 0.4
    y, state = mixer(x[:, :17], valid=valid[:, :17])
    more, _ = mixer(x[:, 17:], state, valid=valid[:, 17:])
    y = torch.cat([y, more], dim=1)
    for row in range(3):
        alone, _ = mixer(x[row : row + 1, valid[row]])
        torch.testing.assert_close(y[row, valid[row]], alone[0])


def test_own_step_is_read() -> None:
    """M_t, not the weights at the start of the chunk, answers: the value of a token moves its own output."""
    mixer = NeuralMemory(8, chunk=64).double()
    x = torch.randn(1, 5, 8, dtype=torch.float64)
    with torch.no_grad():
        before, _ = mixer(x)
        mixer.inputs.weight[16:24] += 0.1  # the values' rows
        assert not torch.allclose(mixer(x)[0][:, 0], before[:, 0])


def test_huge_ridge_is_softmax_attention() -> None:
    mixer = LocalLinear(8, ridge=1e12).double()
    x = torch.randn(2, 20, 8, dtype=torch.float64)
    q, k, v = mixer._heads(x)
    softmax = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    expected = mixer.output(softmax.transpose(1, 2).flatten(2))
    torch.testing.assert_close(mixer(x)[0], expected)


@pytest.mark.parametrize(
    "build",
    [
        lambda: NeuralMemory(8, heads=3),
        lambda: NeuralMemory(8, layers=0),
        lambda: NeuralMemory(8, bound=0.0),
        lambda: RobustMemory(8, chunk=0),
        lambda: LocalLinear(8, ridge=0.0),
    ],
)
def test_bad_options_are_refused(build) -> None:
    with pytest.raises(AttimeError):
        build()


def test_no_bound_is_a_bound_never_reached() -> None:
    free, far = NeuralMemory(8, bound=math.inf), NeuralMemory(8, bound=1e9)
    far.load_state_dict(free.state_dict())
    x = torch.randn(2, 40, 8)
    torch.testing.assert_close(free(x)[0], far(x)[0])
