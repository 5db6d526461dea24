"""Hierarchical chunks: what is not chosen is not read, what is under way is not seen, and its ends are known mixers."""

import pytest
import torch

from attime.attention.sparse import HierarchicalChunks
from attime.errors import AttimeError


@torch.no_grad()
def test_only_the_chosen_chunks_are_read() -> None:
    torch.manual_seed(0)
    mixer, x = (
        HierarchicalChunks(8, chunk=4, top=1, renormalised=True).double(),
        torch.randn(1, 21, 8, dtype=torch.float64),
    )
    before = mixer(x)[0][:, -1]
    moved = []
    for chunk in range(5):
        _, state = mixer(x[:, :20])
        state.entries[:, chunk] += 1
        moved.append(not torch.allclose(mixer(x[:, 20:], state)[0][:, -1], before))
    assert sum(moved) == 1


@torch.no_grad()
def test_the_chunk_under_way_is_not_seen() -> None:
    mixer, x = HierarchicalChunks(8, chunk=5), torch.randn(1, 9, 8)
    y, _ = mixer(x)
    assert not y[:, :5].any()
    x[:, 5:8] += 1
    torch.testing.assert_close(mixer(x)[0][:, 8], y[:, 8])


@torch.no_grad()
def test_shares_of_all_chunks_or_of_the_chosen() -> None:
    torch.manual_seed(0)
    some, all_ = HierarchicalChunks(8, chunk=2, top=2), HierarchicalChunks(8, chunk=2, top=2, renormalised=True)
    all_.load_state_dict(some.state_dict())
    x = torch.randn(1, 12, 8)
    torch.testing.assert_close(some(x[:, :5])[0], all_(x[:, :5])[0])
    assert some(x)[0][:, -1].norm() < all_(x)[0][:, -1].norm(), "shares of all chunks add up to less than one"


def test_without_gradient_nothing_flows_into_what_was_written() -> None:
    for gradient in (False, True):
        x = torch.randn(1, 9, 8, requires_grad=True)
        HierarchicalChunks(8, chunk=4, gradient=gradient)(x)[0][:, -1].sum().backward()
        assert x.grad is not None
        assert bool(x.grad[:, :8].any()) == gradient


def test_mistakes_are_told() -> None:
    with pytest.raises(AttimeError, match="chunk >= 1 and top >= 1"):
        HierarchicalChunks(8, top=0)
