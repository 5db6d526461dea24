"""State-space mixers and their neighbours: known values, other rates, limits of chunk sizes, bad input."""

import math

import pytest
import torch
from torch.nn import functional as F

from attime.attention.rotary import rotate, turns
from attime.attention.softmax import ChunkGated, PrefixQuery
from attime.attention.ssm import LSSL, Diagonal, Selective, lssl
from attime.errors import AttimeError

DOUBLE = torch.float64


def test_lssl_starts_as_hippo_legs() -> None:
    order = torch.arange(16, dtype=DOUBLE)
    root = (2 * order + 1).sqrt()
    hippo = -torch.tril(root[:, None] * root, -1) - torch.diag(order + 1)
    torch.testing.assert_close(LSSL(2, slots=16).dynamics(DOUBLE), hippo, rtol=0, atol=1e-5)


@pytest.mark.parametrize("block", [1, 5, 16, 256])
def test_lssl_blocks_do_not_matter(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    mixer, x = LSSL(3, slots=4).double(), torch.randn(2, 37, 3, dtype=DOUBLE)
    monkeypatch.setattr(lssl, "BLOCK", block)
    torch.testing.assert_close(mixer(x)[0], mixer.reference(x))


def test_lssl_is_accurate_in_float32() -> None:
    mixer, x = LSSL(8, slots=64), torch.randn(1, 600, 8)
    exact = mixer.double().reference(x.double())
    assert (mixer.float()(x)[0] - exact).norm() < 1e-5 * exact.norm()


def test_lssl_follows_the_rate_of_the_data() -> None:
    """Half the samples and twice the step give nearly the same memory of a smooth signal."""
    mixer = LSSL(4, slots=8).double()
    t = torch.linspace(0, 3, 2001, dtype=DOUBLE)[:2000]
    signal = (2 * torch.pi * t).sin()[None, :, None].expand(1, -1, 4)
    mixer.log_step.data.fill_(math.log(0.0015))
    _, fine = mixer(signal)
    mixer.log_step.data += math.log(2)
    _, coarse = mixer(signal[:, 1::2])
    assert (fine.memory - coarse.memory).norm() < 0.02 * fine.memory.norm()


def test_backward_euler_is_a_gate() -> None:
    """One slot with A = -1, B = 1 and alpha = 1 is s_t = (1 - g) s_{t-1} + g x_t with g = h / (1 + h)."""
    mixer = LSSL(2, slots=2, alpha=1.0).double()
    for name, value in {"left": 1.0, "right": 1.0, "spread": 0.0, "middle": 1.0, "below": 0.0, "write": 1.0}.items():
        getattr(mixer, name).data.fill_(value)
    x, state = torch.randn(1, 9, 2, dtype=DOUBLE), torch.zeros(1, 2, dtype=DOUBLE)
    gate = mixer.log_step.sigmoid()
    for x_t in x.unbind(1):
        state = (1 - gate) * state + gate * x_t
    torch.testing.assert_close(mixer(x)[1].memory, state[..., None].expand(-1, -1, 2))


@pytest.mark.parametrize(
    "mixer", [LSSL(8, slots=8), Diagonal(8), Selective(8), PrefixQuery(8)], ids=lambda m: type(m).__name__
)
def test_state_is_small_after_a_long_past(mixer) -> None:
    with torch.no_grad():
        _, state = mixer(torch.randn(1, 3000, 8))
    assert state.nbytes == mixer.cost(10**6).state_bytes == mixer.cost(1).state_bytes


def test_selective_forgets_what_its_step_tells_it_to() -> None:
    """A huge step writes over the memory; a step of zero leaves it alone."""
    mixer, x = Selective(4, slots=2).double(), torch.randn(1, 5, 4, dtype=DOUBLE)
    _, state = mixer(x)
    mixer.step.weight.data.zero_()
    mixer.step.bias.data.fill_(-1e4)
    torch.testing.assert_close(mixer(x, state)[1].memory, state.memory)
    mixer.step.bias.data.fill_(1e4)
    torch.testing.assert_close(mixer(x, state)[1].memory, mixer(x)[1].memory)


def test_prefix_query_is_attention_of_its_query() -> None:
    mixer, x = PrefixQuery(8).double(), torch.randn(2, 70, 8, dtype=DOUBLE)
    k, v = (each.unflatten(-1, (2, 4)).transpose(1, 2) for each in mixer.inputs(x).chunk(2, -1))
    out = F.scaled_dot_product_attention(mixer.query[None, :, None].expand(2, -1, 1, -1), k, v)
    torch.testing.assert_close(mixer(x)[0][:, -1:], mixer.output(out.transpose(1, 2).flatten(-2)))


def test_chunk_gated_with_chunks_of_one_and_open_gates_is_attention() -> None:
    mixer, x = ChunkGated(8, chunk=1).double(), torch.randn(2, 11, 8, dtype=DOUBLE)
    mixer.gate_bias.data.fill_(-1e4)
    z, v, _, q, k = mixer.inputs(x).split(8, dim=-1)
    q, k, v = (each.unflatten(-1, (2, 4)).transpose(1, 2) for each in (q, k, v))
    q, k = (rotate(each, turns(torch.arange(11)[None], 4)) for each in (q, k))
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(-2)
    torch.testing.assert_close(mixer(x)[0], mixer.output(z.sigmoid() * out))


def test_chunk_gated_with_one_chunk_is_a_gated_recurrence() -> None:
    mixer, x = ChunkGated(8, chunk=64).double(), torch.randn(2, 50, 8, dtype=DOUBLE)
    z, v, f, _, _ = mixer.inputs(x).split(8, dim=-1)
    f, running, rows = (f + mixer.gate_bias).sigmoid(), torch.zeros(2, 8, dtype=DOUBLE), []
    for f_t, v_t in zip(f.unbind(1), v.unbind(1), strict=True):
        running = f_t * running + (1 - f_t) * v_t
        rows.append(running)
    torch.testing.assert_close(mixer(x)[0], mixer.output(z.sigmoid() * torch.stack(rows, 1)))


def test_chunk_gated_holds_one_entry_per_finished_chunk() -> None:
    mixer, x = ChunkGated(8, chunk=4).double(), torch.randn(2, 40, 8, dtype=DOUBLE)
    valid = torch.arange(40) < torch.tensor([[40], [9]])
    _, state = mixer(x, valid=valid)
    assert state.keys.shape[2] == 10
    assert state.tokens.tolist() == [40, 9]
    _, alone = mixer(x[1:, :9])
    y, _ = mixer(x[:, :7], state)
    torch.testing.assert_close(y[1:], mixer(x[1:, :7], alone)[0])


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: LSSL(4, slots=1), "slots >= 2"),
        (lambda: LSSL(4, alpha=2.0), "alpha <= 1"),
        (lambda: Diagonal(4, slots=0), "slots >= 1"),
        (lambda: Selective(4, width=0), "width"),
        (lambda: PrefixQuery(5), "divide dim"),
        (lambda: ChunkGated(8, chunk=0), "chunk >= 1"),
        (lambda: ChunkGated(6, heads=2), "even dim / heads"),
        (lambda: ChunkGated(12, heads=3), "groups that divide heads"),
    ],
)
def test_bad_options_are_named(build, words: str) -> None:
    with pytest.raises(AttimeError, match=words):
        build()
