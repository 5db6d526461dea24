"""Merging: masses add up, like goes to like, a share of nothing is selection, rows sum to one, and the weights can be learnt."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from attime.errors import AttimeError
from attime.hub import attach
from attime.memory import chain
from attime.memory.evict import Evict, KeyNorm, Received
from attime.memory.merge import Convolution, Mixing, Nearest
from attime.memory.merge.convolution import fit
from attime.memory.past import Past
from attime.memory.place import Contiguous
from attime.memory.quantize import ThinKeys
from attime.memory.reader import read
from attime.memory.rotary import Rotary

ROTARY = Rotary(0.1 ** torch.arange(4))


def _stream(time: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(1, h, time, 8, generator=generator, dtype=torch.float64) for h in (4, 2, 2))
    return q, k, v


def test_masses_and_values_add_up() -> None:
    past = Past(heads=2, rotate=ROTARY)
    q, k, v = _stream(61)
    read(
        past, chain(Evict(score=KeyNorm(), budget=16, recent=3, every=4, sinks=2, action=Nearest(least=-1.0))), q, k, v
    )
    [bank] = past.banks
    assert bank.log_mass is not None
    mass = bank.log_mass.now.double().exp()
    torch.testing.assert_close(mass.sum(1), torch.full((2,), 61.0).double(), rtol=1e-5, atol=0)
    assert bool((mass[:, :2] == 1).all()), "a sink has been merged into"
    torch.testing.assert_close((mass[..., None] * bank.values()).sum(1), v[0].sum(1), rtol=1e-5, atol=1e-5)


def test_an_entry_like_another_is_folded_into_it_wherever_it_stood() -> None:
    past = Past(heads=2, rotate=ROTARY)
    q, k, v = _stream(12)
    k[:, :, 7] = k[:, :, 3]
    numbers = torch.arange(12).expand(2, -1)
    rotated = ROTARY(k[0], numbers)[None]
    read(past, chain(), q, rotated, v)
    keep = torch.ones(2, 12, dtype=torch.bool)
    keep[:, 7] = False
    Nearest(least=0.999).leave(past, [keep], sinks=1, room=0)
    [bank] = past.banks
    torch.testing.assert_close(bank.keys()[:, :4], rotated[0, :, :4])
    torch.testing.assert_close(bank.values()[:, 3], (v[0, :, 3] + v[0, :, 7]) / 2)
    assert bank.log_mass is not None
    torch.testing.assert_close(bank.log_mass.now.exp()[0], torch.tensor([1.0, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1]))


def test_what_is_like_nothing_is_gone() -> None:
    past = Past(heads=2)
    read(past, chain(), *_stream(12))
    before = past.banks[0].keys().clone()
    keep = torch.arange(12).expand(2, -1) > 3
    Nearest(least=1.0).leave(past, [keep], sinks=0, room=0)
    assert torch.equal(past.banks[0].keys(), before[:, 4:])


@pytest.mark.parametrize("after", [(Contiguous(),), (ThinKeys(recent=4, observed=4, every=4),)])
def test_merging_goes_with_other_policies(after: Any) -> None:
    q, k, v = _stream(90)
    mixing = Mixing(layers=1, head_dim=8, slots=4)
    for first in (
        Evict(score=Received(), budget=20, recent=5, every=4, action=Nearest(least=0.0)),
        Convolution(mixing=mixing, heavy=8, recent=8, every=4),
    ):
        past = Past(heads=2, rotate=ROTARY)
        with torch.no_grad():
            out = read(past, chain(first, *after), q, k, v)
        assert out.isfinite().all()
        assert int(past.kept().max()) <= 24


def test_a_share_of_nothing_is_selection() -> None:
    q, k, v = _stream(90)
    mixing = Mixing(layers=1, head_dim=8, slots=4)
    torch.nn.init.zeros_(mixing.share)
    policy = Convolution(mixing=mixing, sinks=1, heavy=6, recent=5, every=4)
    selection = Evict(score=Received(), budget=policy.budget, sinks=1, recent=5, every=4)
    pasts = [Past(heads=2, rotate=ROTARY) for _ in range(2)]
    with torch.no_grad():
        ours, theirs = (read(past, chain(each), q, k, v) for past, each in zip(pasts, (policy, selection), strict=True))
    torch.testing.assert_close(ours, theirs)
    assert torch.equal(pasts[0].banks[0].when.now, pasts[1].banks[0].when.now)


def test_rows_of_the_weights_sum_to_one() -> None:
    _, k, v = _stream(30)
    mixing = Mixing(layers=2, head_dim=8, slots=4)
    best = torch.tensor([[1, 5, 7, 20], [0, 2, 3, 29]])
    weights = mixing(k[0], v[0], best, 1)
    torch.testing.assert_close(weights.sum(2), torch.ones(2, 4).double())
    assert bool((weights.gather(2, best[..., None]) > 0.5).all()), "half of the weight is the best entry's"


@pytest.mark.parametrize("after", [(), (Contiguous(),)])
def test_weights_are_learnt_with_the_model_frozen(after: Any) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = dict(vocab_size=16, hidden_size=32, intermediate_size=48, num_hidden_layers=2)
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2))
    model.requires_grad_(False)
    mixing, text = Mixing(layers=2, head_dim=8, slots=4), torch.randint(0, 16, (2, 48))
    with attach(model, chain(Convolution(mixing=mixing, heavy=4, recent=4, every=8), *after)):
        losses = fit(mixing, lambda step: model(text, labels=text).loss, steps=8, learning_rate=0.05)
    assert losses[-1] < losses[0]
    assert all(each.grad is not None and bool(each.grad.abs().sum() > 0) for each in mixing.parameters())


def test_what_cannot_be_is_told() -> None:
    with pytest.raises(AttimeError, match="Nearest needs"):
        Nearest(reach=0)
    with pytest.raises(AttimeError, match="odd kernel"):
        Mixing(layers=1, head_dim=8, slots=4, kernel=4)
    mixing = Mixing(layers=1, head_dim=8, slots=4)
    with pytest.raises(AttimeError, match="Convolution needs"):
        Convolution(mixing=mixing, every=0)
    past = Past(heads=2, layer=1, layers=2)
    with pytest.raises(AttimeError, match="weights for 1 layers"):
        read(past, chain(Convolution(mixing=mixing, heavy=4, recent=4, every=4)), *_stream(40))
