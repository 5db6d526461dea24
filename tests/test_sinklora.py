"""Shifted groups as a span, and low-rank adaptation that leaves a model as it was."""

import itertools

import pytest
import torch
from torch import nn

from attime.attention.kernels.blocks import attend_blocks, attend_blocks_naive
from attime.attention.spans import Causal, Groups, Sinks
from attime.errors import AttimeError
from attime.hub.lora import adapting


def test_groups_are_groups_and_half_of_the_heads_are_shifted() -> None:
    mask = (Groups(2, 4) & Causal()).dense(10)
    for head, edges in enumerate(([0, 4, 8, 10], [0, 2, 6, 10])):
        expected = torch.zeros(10, 10, dtype=torch.bool)
        for start, stop in itertools.pairwise(edges):
            expected[start:stop, start:stop] = True
        assert torch.equal(mask[head], expected.tril())


def test_sinks_are_seen_by_every_group_and_blocks_agree() -> None:
    span = (Groups(4, 24, shifted=1) | Sinks(3)) & Causal()
    assert span.dense(100)[:, 50, :3].all()
    q, k, v = torch.randn(3, 2, 4, 100, 8, dtype=torch.float64).unbind()
    blocks = span.blocks(100, size=16)
    out, _ = attend_blocks_naive(q, k, v, blocks)
    torch.testing.assert_close(attend_blocks(q, k, v, blocks), out)


def test_what_is_no_longer_needed_is_never_seen_again() -> None:
    span = (Groups(2, 6) | Sinks(1)) & Causal()
    heads, dense = torch.arange(2)[:, None], span.dense(30)
    for now in range(30):
        needed = span.needed(torch.arange(now), now, heads).expand(2, now)
        assert not (dense[:, now:, :now].any(1) & ~needed).any()


def test_an_adapted_model_learns_and_is_then_as_before() -> None:
    model = nn.ModuleDict({"q_proj": nn.Linear(6, 6, bias=False), "norm": nn.LayerNorm(6), "other": nn.Linear(6, 6)})
    before = {name: each.clone() for name, each in model.state_dict().items()}
    x = torch.randn(4, 6)

    def call() -> torch.Tensor:
        return model["norm"](model["q_proj"](x) + model["other"](x))

    start = call().detach()
    for keep in (False, True):
        with adapting(model, rank=2, targets=("q_proj",), also=("norm",), keep=keep) as learnt:
            assert torch.equal(call(), start), "at first nothing changes"
            assert sum(each.numel() for each in learnt) == 2 * 6 * 2 + 2 * 6
            optimiser = torch.optim.SGD(learnt, lr=0.1)
            for _ in range(3):
                optimiser.zero_grad()
                call().pow(3).sum().backward()
                optimiser.step()
            assert model["other"].weight.grad is None
            after = call().detach()
        if keep:
            torch.testing.assert_close(call(), after)
        else:
            assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
        assert all(each.requires_grad for each in model.parameters())


def test_mistakes_are_told() -> None:
    with pytest.raises(AttimeError, match="size >= 2"):
        Groups(2, 1)
    with pytest.raises(AttimeError, match="linear layers named"), adapting(nn.Linear(2, 2)):
        pass
