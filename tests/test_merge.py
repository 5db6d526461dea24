"""Pieces of softmax attention: merged in any order they are the whole."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from attime.attention.kernels.merge import Triple, merge, partial, prefix_softmax, prefix_softmax_naive


def _qkv(heads: int = 4, kv_heads: int = 2, queries: int = 5, keys: int = 9, dtype: torch.dtype = torch.float64):
    shapes = ((2, heads, queries, 8), (2, kv_heads, keys, 8), (2, kv_heads, keys, 6))
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def test_a_piece_is_softmax_attention() -> None:
    q, k, v = _qkv()
    mask = torch.rand(2, 1, 5, 9) < 0.7
    out, lse = partial(q, k, v, mask=mask)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    torch.testing.assert_close(out, expected)
    scores = (q @ k.repeat_interleave(2, 1).mT / 8**0.5).masked_fill(~mask, -torch.inf)
    torch.testing.assert_close(lse, scores.logsumexp(-1))


def test_pieces_merge_in_any_order_with_gradients() -> None:
    q, k, v = _qkv(keys=12)
    whole, whole_lse = partial(q, k, v)
    pull, pull_lse = torch.randn_like(whole), torch.randn_like(whole_lse)
    expected = torch.autograd.grad((whole * pull).sum() + (whole_lse * pull_lse).sum(), (q, k, v))
    pieces = [partial(q, k[:, :, cut], v[:, :, cut]) for cut in (slice(0, 1), slice(1, 7), slice(7, 12))]
    for order in itertools.permutations(pieces):
        out, lse = merge(*order)
        torch.testing.assert_close(out, whole)
        torch.testing.assert_close(lse, whole_lse)
    nested = merge(merge(pieces[2], pieces[0]), pieces[1])
    got = torch.autograd.grad((nested[0] * pull).sum() + (nested[1] * pull_lse).sum(), (q, k, v))
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_an_empty_piece_changes_nothing() -> None:
    q, k, v = _qkv()
    whole = partial(q, k, v)
    empty = partial(q, k, v, mask=torch.zeros(1, 1, 1, 9, dtype=torch.bool))
    assert bool((empty[0] == 0).all())
    assert bool((empty[1] == -torch.inf).all())
    for ours, theirs in zip(merge(empty, whole), whole, strict=True):
        torch.testing.assert_close(ours, theirs)
    both_out, both_lse = merge(empty, empty)
    assert bool((both_out == 0).all())
    assert bool((both_lse == -torch.inf).all())
    pull = torch.stack([out.sum() for out in (both_out, merge(empty, whole)[0], empty[0])])
    for gradient in torch.autograd.grad(pull.sum(), (q, k, v)):
        assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_far_apart_scores_stay_finite(dtype: torch.dtype) -> None:
    q, k, v = (each.detach().to(dtype) for each in _qkv())
    low, high = partial(q, k, v, bias=torch.tensor(-3e4).reshape(1, 1, 1, 1)), partial(q, k, v)
    out, lse = merge(low, high)
    assert (out.dtype, lse.dtype) == (dtype, torch.float32)
    torch.testing.assert_close(out, high[0])


@pytest.mark.parametrize("time", [1, 7, 64, 65, 300, 64 * 64 + 3])
def test_prefixes_are_the_loop(time: int) -> None:
    scores = 5 * torch.randn(2, 3, time, dtype=torch.float64)
    values = torch.randn(2, 3, time, 4, dtype=torch.float64)
    inputs = (scores.requires_grad_(), values.requires_grad_())
    (fast, fast_end), (slow, slow_end) = (form(scores, values) for form in (prefix_softmax, prefix_softmax_naive))
    torch.testing.assert_close(fast, slow)
    for ours, theirs in zip(fast_end, slow_end, strict=True):
        torch.testing.assert_close(ours, theirs)
    if time <= 300:
        got, expected = (torch.autograd.grad(out.square().sum(), inputs) for out in (fast, slow))
        for ours, theirs in zip(got, expected, strict=True):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("cut", [1, 60, 64, 130])
def test_prefixes_go_on_from_a_carry(cut: int) -> None:
    scores, values = torch.randn(2, 3, 200, dtype=torch.float64), torch.randn(2, 3, 200, 4, dtype=torch.float64)
    values.requires_grad_()
    whole, end = prefix_softmax(scores, values)
    first, carry = prefix_softmax(scores[:, :, :cut], values[:, :, :cut])
    second, second_end = prefix_softmax(scores[:, :, cut:], values[:, :, cut:], carry)
    torch.testing.assert_close(torch.cat([first, second], 2), whole)
    for ours, theirs in zip(second_end, end, strict=True):
        torch.testing.assert_close(ours, theirs)
    got = torch.autograd.grad(second.square().sum(), values)[0]
    torch.testing.assert_close(got, torch.autograd.grad(whole[:, :, cut:].square().sum(), values)[0])


def test_prefixes_leave_out_tokens_that_are_not_there() -> None:
    scores, values = torch.randn(1, 1, 90, dtype=torch.float64), torch.randn(1, 1, 90, 4, dtype=torch.float64)
    there = torch.rand(90) < 0.5
    there[:3] = False
    scores.requires_grad_()
    for form in (prefix_softmax, prefix_softmax_naive):
        out, end = form(scores.masked_fill(~there, -torch.inf), values)
        alone, alone_end = form(scores[:, :, there], values[:, :, there])
        torch.testing.assert_close(out[:, :, there], alone)
        assert bool((out[:, :, :3] == 0).all())
        for ours, theirs in zip(end, alone_end, strict=True):
            torch.testing.assert_close(ours, theirs)
        assert bool(torch.autograd.grad(out.square().sum(), scores)[0].isfinite().all())


def test_a_late_great_score_does_not_wipe_out_the_early_prefixes() -> None:
    scores = torch.full((1, 1, 50), -200.0)
    scores[..., 40] = 200.0
    values = torch.randn(1, 1, 50, 4)
    out, end = prefix_softmax(scores, values)
    torch.testing.assert_close(out[:, :, 30], values[:, :, :31].mean(2))
    torch.testing.assert_close(out[:, :, 45], values[:, :, 40])
    again, _ = prefix_softmax(torch.zeros(1, 1, 1), torch.ones(1, 1, 1, 4), end)
    torch.testing.assert_close(again[:, :, 0], values[:, :, 40])
    assert isinstance(end, Triple)
