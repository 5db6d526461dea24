"""Thin keys: the score is the brute-force one, what is gathered is what zeros would give, bytes are really freed, all is saved."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from attime.errors import AttimeError
from attime.memory import chain
from attime.memory.evict import Evict, KeyNorm, SinkWindow
from attime.memory.past import Past
from attime.memory.place import Contiguous
from attime.memory.quantize import ThinKeys
from attime.memory.quantize.thin_keys import Thin, channel_scores
from attime.memory.reader import read
from attime.memory.rotary import Rotary
from attime.memory.saved import load_pasts, save_pasts

ROTARY = Rotary(0.1 ** torch.arange(4))


def _stream(time: int, dim: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, heads, time, dim, generator=generator, dtype=torch.float64) for heads in (4, 2, 2))
    return q, k, v


def test_the_greedy_score_is_the_loss_of_one_channel() -> None:
    q, k, _ = _stream(40)
    queries = q.unflatten(1, (2, 2)).flatten(0, 1).transpose(1, 2)
    scores = channel_scores(queries, k[0])
    for lane in range(2):
        for channel in range(16):
            lost = [
                torch.outer(queries[lane, :, group, channel], k[0, lane, :, channel]).square().sum() for group in (0, 1)
            ]
            torch.testing.assert_close(scores[lane, channel], sum(lost) / 2)  # pyright: ignore[reportArgumentType]


def test_gathered_keys_answer_as_keys_with_zeros() -> None:
    q, k, v = _stream(30)
    channels = torch.tensor([[0, 3, 4, 9], [1, 2, 3, 15]])
    thin = Thin.of(k[0], v[0], channels)
    zeroed = torch.zeros_like(k[0])
    for lane, own in enumerate(channels):
        zeroed[lane, :, own] = k[0, lane, :, own]
    torch.testing.assert_close(thin.keys(), zeroed)
    torch.testing.assert_close(thin.logits(q[0, :2]), q[0, :2] @ zeroed.mT)
    assert thin.nbytes == 2 * 30 * (4 + 16) * 8 + channels.nbytes


def test_it_is_attention_over_zeroed_older_keys_and_whole_recent_ones() -> None:
    q, k, v = _stream(65)
    past = Past(heads=2)
    policy = chain(ThinKeys(share=0.5, recent=8, observed=8, every=64))
    out = read(past, policy, q, k, v)[:, :, 64:]
    bank = past.banks[0]
    assert [store.length for store in bank.stores] == [56, 9]
    keys = bank.keys()[None].repeat_interleave(2, 1)
    assert bool((keys[0, :, :56] == 0).sum(-1).eq(8).all())
    torch.testing.assert_close(keys[:, ::2, 56:], k[:, :, 56:])
    values = v.repeat_interleave(2, 1)
    torch.testing.assert_close(out, (q[:, :, 64:] @ keys.mT / 4).softmax(-1) @ values)


def test_bytes_are_freed() -> None:
    q, k, v = _stream(4096)
    thin, whole = Past(heads=2), Past(heads=2)
    read(thin, chain(ThinKeys(share=0.5, recent=32, every=64)), q, k, v)
    read(whole, chain(), q, k, v)
    held = sum(store.nbytes for store in thin.banks[0].stores)
    assert held <= 1.02 * 0.75 * sum(store.nbytes for store in whole.banks[0].stores) + 96 * 2 * 32 * 8


@pytest.mark.parametrize(
    "policy",
    [
        chain(SinkWindow(sinks=2, window=62, every=16), Contiguous(), ThinKeys(recent=8, observed=8, every=16)),
        chain(ThinKeys(recent=8, observed=8, every=8), SinkWindow(sinks=2, window=62, every=16), Contiguous()),
        chain(Evict(score=KeyNorm(), budget=48, every=16, recent=9), ThinKeys(recent=8, observed=8, every=16)),
    ],
)
def test_it_goes_with_eviction_and_with_moved_keys(policy) -> None:
    q, k, v = _stream(200)
    one, steps = (Past(heads=2, rotate=ROTARY) for _ in range(2))
    whole = read(one, policy, q, k, v)
    parts = [read(steps, policy, *(each[:, :, i : i + 1] for each in (q, k, v))) for i in range(200)]
    torch.testing.assert_close(torch.cat(parts, dim=2), whole)
    assert any(isinstance(store, Thin) for bank in one.banks for store in bank.stores)


def test_it_is_saved(tmp_path: Path) -> None:
    q, k, v = _stream(90)
    past, policy = Past(heads=2), chain(ThinKeys(recent=8, observed=8, every=16))
    read(past, policy, *(each[:, :, :80] for each in (q, k, v)))
    save_pasts(tmp_path / "past", [past], model="m", policy="p", extra={})
    [again], _ = load_pasts(tmp_path / "past", model="m", policy="p")
    rest = [each[:, :, 80:] for each in (q, k, v)]
    torch.testing.assert_close(read(again, policy, *rest), read(past, policy, *rest))


@pytest.mark.parametrize("options", [{"share": 1.0}, {"recent": -1}, {"observed": 0}, {"every": 0}])
def test_options_that_cannot_be_are_told(options: dict[str, float]) -> None:
    with pytest.raises(AttimeError, match="ThinKeys needs"):
        ThinKeys(**options)  # pyright: ignore[reportArgumentType]


def test_keys_alone_choose_the_largest_channels() -> None:
    q, k, v = _stream(20)
    past = Past(heads=2)
    read(past, chain(ThinKeys(share=0.5, recent=4, observed=4, by="keys", every=20)), q, k, v)
    thin = past.banks[0].stores[0]
    assert isinstance(thin, Thin)
    largest = k[0, :, :16].square().sum(1).topk(8, dim=1).indices.sort(dim=1).values
    assert torch.equal(thin.channels, largest)
    assert past.queries is None, "nobody needs them"
