"""Linear attention by known values: Taylor features, flow, running-softmax keys, mixtures of memories."""

import pytest
import torch
from torch import nn

from attime.attention.linear import (
    Flow,
    FlowBidirectional,
    GatedDelta,
    LightNet,
    LightNetGrid,
    MixtureOfMemories,
    Taylor,
)
from attime.attention.linear.memories import load_balance
from attime.attention.linear.taylor import CHUNK, taylor_chunks, taylor_features, taylor_weights
from attime.errors import AttimeError

STREAMING = [Flow(8), LightNet(8), MixtureOfMemories(8), Taylor(8, heads=2, feature_dim=3)]


def named(mixer: nn.Module) -> str:
    return type(mixer).__name__


@pytest.mark.parametrize("size", [1, 2, 5, 8, 16])
def test_taylor_features_are_the_polynomial(size: int) -> None:
    q, k = torch.randn(2, 50, size, dtype=torch.float64)
    score = (q * k).sum(-1) / size**0.5
    features = taylor_features(q), taylor_features(k)
    assert features[0].shape[-1] == (size + 1) * (size + 2) // 2
    torch.testing.assert_close((features[0] * features[1]).sum(-1), 1 + score + score**2 / 2)


def test_taylor_chunks_are_the_quadratic_form_with_state_and_gradients() -> None:
    q, k = torch.randn(2, 2, 3, 2 * CHUNK + 5, 4, dtype=torch.float64).requires_grad_().unbind(0)
    v, memory = torch.randn(2, 3, q.shape[2], 3, dtype=torch.float64), torch.randn(2, 3, 15, 3, dtype=torch.float64)
    fast, end = taylor_chunks(q, k, v, memory)
    slow = taylor_weights(q, k) @ v + taylor_features(q) @ memory
    torch.testing.assert_close(fast, slow)
    torch.testing.assert_close(end, memory + taylor_features(k).mT @ v)
    for ours, theirs in zip(
        torch.autograd.grad(fast.sin().sum(), (q, k), retain_graph=True),
        torch.autograd.grad(slow.sin().sum(), (q, k)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_taylor_without_queries_is_the_mean_of_the_past() -> None:
    mixer, x = Taylor(6, heads=2, feature_dim=3).double(), torch.randn(1, 9, 6, dtype=torch.float64)
    with torch.no_grad():
        mixer.inputs.weight[:6] = 0
        values = x @ mixer.inputs.weight[12:].T
        mean = values.cumsum(1) / torch.arange(1, 10)[:, None]
        torch.testing.assert_close(mixer(x)[0], mixer.output(mean))


def test_taylor_is_right_where_features_cancel() -> None:
    mixer = Taylor(8, heads=2, feature_dim=16)
    x = 100 * torch.randn(1, 200, 8)
    with torch.no_grad():
        near, exact = mixer(x)[0], mixer.double().reference(x.double())
    assert (near - exact).norm() < 1e-3 * exact.norm()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [  # from the authors' code with identity projections and one head, in float64
        (FlowBidirectional, [[0.848674, -0.033128], [0.880678, -0.058016], [0.961009, -0.047745]]),
        (Flow, [[0.0, 0.0], [0.405934, -0.405934], [0.926299, -0.067805]]),
    ],
)
def test_flow_is_the_released_code(kind: type, expected: list[list[float]]) -> None:
    mixer = kind(2, heads=1).double()
    with torch.no_grad():
        mixer.inputs.weight.copy_(torch.eye(2).repeat(3, 1))
        mixer.output.weight.copy_(torch.eye(2))
        mixer.inputs.bias.zero_()
        mixer.output.bias.zero_()
        y, _ = mixer(torch.tensor([[[0.0, 0.0], [1.0, -1.0], [2.0, 0.5]]], dtype=torch.float64))
    torch.testing.assert_close(y[0], torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-6)


def test_running_softmax_weights_sum_to_one() -> None:
    mixer = LightNet(8).double()
    with torch.no_grad():
        mixer.inputs.weight[16:] = 0  # constant values need a constant input channel
        mixer.inputs.weight[16:, 0] = 1
        x = torch.randn(2, 30, 8, dtype=torch.float64)
        x[..., 0] = 2.0
        _, state = mixer(x)
    torch.testing.assert_close(state.memory, torch.full_like(state.memory, 2.0))


def test_lightnet_in_float32_stays_right_on_a_long_stream() -> None:
    mixer, x = LightNet(8, heads=2, gate_dim=4), 3 * torch.randn(1, 4000, 8)
    with torch.no_grad():
        _, near = mixer(x)
        _, exact = mixer.double()(x.double())
    assert (near.memory - exact.memory).norm() < 1e-4 * exact.memory.norm()


def test_lightnet_grid_sees_no_order() -> None:
    mixer, x = LightNetGrid(8).double(), torch.randn(2, 3, 4, 5, 8, dtype=torch.float64)
    order = torch.randperm(60)
    shuffled = x.flatten(1, 3)[:, order].view_as(x)
    torch.testing.assert_close(mixer(shuffled)[0].flatten(1, 3), mixer(x)[0].flatten(1, 3)[:, order])


@pytest.mark.parametrize("width", [1, 4])
def test_one_memory_is_the_gated_delta_rule(width: int) -> None:
    mixture = MixtureOfMemories(8, memories=1, top=1, shared=False, width=width).double()
    single = GatedDelta(8, width=width).double()
    with torch.no_grad():
        key_value, gates = mixture.writes[0].get_parameter("weight").split([16, 4])
        query, gate = mixture.inputs.weight.split([8, 8])
        single.inputs.weight.copy_(torch.cat([query, key_value]))
        single.gates.weight.copy_(gates.view(2, 2, 8).flip(0).flatten(0, 1))
        single.gate.weight.copy_(gate)
        for ours, theirs in (
            (mixture.taps, single.taps),
            (mixture.log_rate, single.rate),
            (mixture.bias, single.step),
            (mixture.norm, single.scale),
            (mixture.output.weight, single.output.weight),
        ):
            theirs.copy_(ours)
        x = torch.randn(2, 40, 8, dtype=torch.float64)
        torch.testing.assert_close(mixture(x)[0], single(x)[0])


def test_only_chosen_memories_change() -> None:
    mixer = MixtureOfMemories(8).double()
    with torch.no_grad():
        _, before = mixer(torch.randn(3, 20, 8, dtype=torch.float64))
        token = torch.randn(3, 1, 8, dtype=torch.float64)
        _, after = mixer(token, before)
        _, chosen, _ = mixer.route(token)
    same = (before.memory == after.memory).flatten(2).all(2) & (before.past == after.past).flatten(2).all(2)
    assert chosen.sum(2).unique().tolist() == [2]
    assert torch.equal(same[:, :4], ~chosen[:, 0])
    assert not same[:, 4].any()


def test_load_balance_counts() -> None:
    even = torch.eye(4).repeat(5, 1)[None] * 0.1 + 0.225
    torch.testing.assert_close(load_balance(even, top=1), torch.tensor(1.0))
    collapsed = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(2, 7, 4)
    torch.testing.assert_close(load_balance(collapsed, top=1), torch.tensor(4.0))
    half = torch.arange(7).expand(2, 7) < 3
    torch.testing.assert_close(load_balance(collapsed, top=2, valid=half), torch.tensor(4.0))


def test_load_balance_spreads_a_collapsed_router() -> None:
    mixer = MixtureOfMemories(8, top=1)
    x = torch.randn(4, 64, 8)
    with torch.no_grad():
        x[..., 0] = 1.0
        mixer.router.weight[0, 0] += 3.0
    before = mixer.route(x)[1].float().mean((0, 1)).amax()
    optimizer = torch.optim.Adam(mixer.router.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        load_balance(mixer.route(x)[2], top=1).backward()
        optimizer.step()
    assert mixer.route(x)[1].float().mean((0, 1)).amax() < before - 0.3


@pytest.mark.parametrize("mixer", STREAMING, ids=named)
def test_a_chunk_of_padding_alone_changes_nothing(mixer: nn.Module) -> None:
    x, more = torch.randn(2, 4, 8), torch.randn(2, 3, 8)
    nothing = torch.zeros(2, 4, dtype=torch.bool)
    with torch.no_grad():
        _, state = mixer(x, valid=nothing)
        torch.testing.assert_close(mixer(more, state)[0], mixer(more)[0])
        _, known = mixer(more)
        _, state = mixer(x, known, valid=nothing)
    for ours, theirs in zip(state.tensors(), known.tensors(), strict=True):
        assert torch.equal(ours, theirs)


def test_bad_options_are_named() -> None:
    with pytest.raises(AttimeError, match="top <= memories; got top=5, memories=4"):
        MixtureOfMemories(8, top=5)
    with pytest.raises(AttimeError, match="feature_dim >= 1; got 0"):
        Taylor(8, feature_dim=0)
    with pytest.raises(AttimeError, match="divide dim; got dim=8, heads=3"):
        Flow(8, heads=3)
