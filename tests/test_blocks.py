"""Block-sparse attention: the fast forms give the equation's numbers, lse and gradients."""

import os

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from attime.attention.kernels.blocks import attend_blocks, attend_blocks_naive
from attime.attention.spans import Causal, Documents, Radial, Sinks, Span, Strided, Window
from attime.errors import AttimeError

QKV = tuple[Tensor, Tensor, Tensor]
SPANS: list[Span] = [
    Causal(),
    Window(20),
    (Window(20) | Sinks(3)) & Causal(),
    Window(5, causal=False),
    Documents((7, 30, 1, 61)) & Causal(),
    Strided(4, stride=4, local=2, block=8),
    Radial(11, 9, block=2),
]


def _qkv(heads: int, kv_heads: int, queries: int, keys: int, dim: int = 8, value_dim: int = 8) -> QKV:
    shapes = ((2, heads, queries, dim), (2, kv_heads, keys, dim), (2, kv_heads, keys, value_dim))
    q, k, v = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes)
    return q, k, v


def _same(span: Span, inputs: QKV, size: int, offset: int | None = None) -> None:
    blocks = span.blocks(inputs[0].shape[2], inputs[1].shape[2], size=size, offset=offset)
    out, lse = attend_blocks(*inputs, blocks, with_lse=True)
    expected, expected_lse = attend_blocks_naive(*inputs, blocks)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(lse, expected_lse)
    pull, seen = torch.randn_like(out), expected_lse.isfinite()
    for with_lse in (False, True):
        got, wanted = (
            torch.autograd.grad((y * pull).sum() + with_lse * total[seen].sin().sum(), inputs, retain_graph=True)
            for y, total in ((out, lse), (expected, expected_lse))
        )
        for ours, theirs in zip(got, wanted, strict=True):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("span", SPANS, ids=str)
@pytest.mark.parametrize("size", [16, 64])
def test_blocks_are_the_equation(span: Span, size: int) -> None:
    _same(span, _qkv(4, 4, 99, 99), size)


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 2), (4, 1), (8, 4)])
@pytest.mark.parametrize("span", [Causal(), (Window(20) | Sinks(3)) & Causal(), Strided(4, stride=4, local=2, block=8)])
def test_grouped_queries(span: Span, heads: int, kv_heads: int) -> None:
    if span.heads not in (None, heads, kv_heads):
        with pytest.raises(AttimeError, match="a list for 4"):
            _same(span, _qkv(heads, kv_heads, 50, 50), 16)
    else:
        _same(span, _qkv(heads, kv_heads, 50, 50), 16)


@pytest.mark.parametrize("span", SPANS[:6], ids=str)
@pytest.mark.parametrize("queries", [1, 16, 33])
def test_queries_at_the_end_of_the_keys(span: Span, queries: int) -> None:
    _same(span, _qkv(4, 4, queries, 99), 16)


def test_queries_in_the_middle_of_the_keys() -> None:
    _same(Window(9, causal=False), _qkv(2, 2, 20, 99), 16, offset=31)


def test_queries_that_see_nothing() -> None:
    span = Documents((40, 59)) & Sinks(10)  # only the first document sees its first tokens
    inputs = _qkv(2, 2, 99, 99)
    _same(span, inputs, 16)
    out, lse = attend_blocks(*inputs, span.blocks(99, size=16), with_lse=True)
    assert bool((out[:, :, 40:] == 0).all())
    assert bool((lse[:, :, 40:] == -torch.inf).all())


def test_values_of_another_width() -> None:
    _same(Window(20), _qkv(4, 2, 50, 50, dim=8, value_dim=6), 16)


def test_positions_with_gaps() -> None:
    span = (Window(8) | Sinks(2)) & Causal()
    query, key = torch.arange(30, 40), torch.cat([torch.arange(2), torch.arange(23, 40)])
    inputs = _qkv(2, 2, 10, 19)
    out = attend_blocks(*inputs, span.blocks_at(query, key, size=8))
    mask = span.allows(query[:, None], key)
    torch.testing.assert_close(out, F.scaled_dot_product_attention(*inputs, attn_mask=mask))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_low_precision_is_near(dtype: torch.dtype) -> None:
    inputs = _qkv(2, 2, 150, 150, 16, 16)
    q, k, v = low = [each.detach().to(dtype).requires_grad_() for each in inputs]
    blocks = Window(40).blocks(150)
    expected, out = attend_blocks(*inputs, blocks), attend_blocks(q, k, v, blocks)
    assert out.dtype == dtype
    limit = 1e-5 if dtype == torch.float32 else 2e-2
    pairs = zip(
        [out, *torch.autograd.grad(out.square().sum(), low)],
        [expected, *torch.autograd.grad(expected.square().sum(), inputs)],
        strict=True,
    )
    for ours, theirs in pairs:
        assert (ours.double() - theirs).norm() / theirs.norm() < limit


@pytest.mark.parametrize("span", SPANS, ids=str)
def test_coarser_blocks_are_the_same_list(span: Span) -> None:
    fine = span.blocks(70, 99, size=8)
    coarse = fine.coarser(4)
    assert coarse.size == 32
    torch.testing.assert_close(coarse.dense(), fine.dense())


def test_gradients_by_finite_differences() -> None:
    inputs = [each.detach()[:1, :, :12].clone().requires_grad_() for each in _qkv(2, 1, 12, 12, 3, 3)]
    blocks = ((Window(4) | Sinks(1)) & Causal()).blocks(12, size=4)
    assert torch.autograd.gradcheck(lambda q, k, v: attend_blocks(q, k, v, blocks, with_lse=True), inputs)


def test_a_list_for_other_lengths_is_refused() -> None:
    with pytest.raises(AttimeError, match="a list for 98 queries and 98 keys, and tensors of 99 and 99"):
        attend_blocks(*_qkv(2, 2, 99, 99), Causal().blocks(98))


@pytest.mark.compiles
@pytest.mark.skipif(not os.environ.get("JAXTYPING_DISABLE"), reason="FlexAttention cannot trace run-time type checks")
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("span", SPANS, ids=str)
def test_flex_attention_runs_the_same_list(span: Span) -> None:
    from torch.nn.attention.flex_attention import AuxRequest, flex_attention

    q, k, v = (each.detach().float() for each in _qkv(8, 4, 99, 99, 16, 16))
    blocks = span.blocks(99, size=16).coarser(2)
    out, aux = flex_attention(
        q, k, v, block_mask=blocks.block_mask(heads=8), enable_gqa=True, return_aux=AuxRequest(lse=True)
    )
    expected, lse = attend_blocks(q, k, v, blocks, with_lse=True)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(aux.lse, lse)
