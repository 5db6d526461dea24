"""Prefix linear attention: a prefix is read in both directions, per row, and joins the stream."""

import torch

from attime.attention.linear import PrefixLinear


def test_prefix_is_the_formula_and_streams() -> None:
    mixer = PrefixLinear(8, heads=2, feature_dim=4).double()
    x, prefix = torch.randn(2, 20, 8).double(), torch.tensor([7, 7])
    whole, _ = mixer(x, prefix=prefix)
    torch.testing.assert_close(whole, mixer.reference(x, 7))
    start, state = mixer(x[:, :9], prefix=prefix)
    rest, _ = mixer(x[:, 9:], state)
    torch.testing.assert_close(torch.cat([start, rest], dim=1), whole)


def test_prefix_is_per_row_and_ignores_padding() -> None:
    mixer = PrefixLinear(8, heads=2, feature_dim=4).double()
    x = torch.randn(2, 12, 8).double()
    both, _ = mixer(x, prefix=torch.tensor([5, 0]))
    torch.testing.assert_close(both[:1], mixer(x[:1], prefix=torch.tensor([5]))[0])
    torch.testing.assert_close(both[1:], mixer(x[1:])[0])
    valid = torch.ones(2, 12, dtype=torch.bool)
    valid[0, :3] = False  # padding on the left: the prefix counts tokens, not places
    padded, _ = mixer(x, valid=valid, prefix=torch.tensor([4, 2]))
    torch.testing.assert_close(padded[:1, 3:], mixer(x[:1, 3:], prefix=torch.tensor([4]))[0])


def test_after_the_prefix_the_past_ignores_the_future() -> None:
    mixer = PrefixLinear(8, heads=2, feature_dim=4).double()
    x, prefix = torch.randn(1, 12, 8).double(), torch.tensor([5])
    changed = x.clone()
    changed[:, 8:] += 1
    moved = mixer(changed, prefix=prefix)[0] - mixer(x, prefix=prefix)[0]
    assert float(moved[:, :8].detach().abs().max()) == 0
    changed = x.clone()
    changed[:, 4] += 1
    moved = mixer(changed, prefix=prefix)[0] - mixer(x, prefix=prefix)[0]
    assert float(moved[:, 0].detach().abs().max()) > 1e-6


def test_the_second_projection_learns_from_a_prefix() -> None:
    mixer = PrefixLinear(8, heads=2, feature_dim=4)
    mixer(torch.randn(1, 9, 8), prefix=torch.tensor([6]))[0].square().sum().backward()
    assert all(weight.grad is not None and bool(weight.grad.abs().sum() > 0) for weight in mixer.parameters())
