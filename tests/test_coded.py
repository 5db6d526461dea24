"""A coded past: codes come back bit for bit, numbers within half a bin, files are small, and chunks arrive in time."""

import builtins
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from attime.errors import AttimeError, MissingExtra
from attime.hub import attach
from attime.memory.coded import Chunk, Coder, Level, Trace
from attime.memory.coded.sending import choose, send
from attime.memory.quantize import Quantize

HEADS = torch.tensor([0, 1, 0, 1])


def _keys(entries: int, dim: int = 8, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn(4, entries, dim, generator=generator)
    return steps.cumsum(1) * 0.2 + 3 * torch.arange(dim)


@pytest.mark.parametrize("group", [0, 2, 10])
@pytest.mark.parametrize("entries", [0, 1, 19, 40, 41, 95])
def test_codes_come_back_bit_for_bit(group: int, entries: int) -> None:
    coder, keys = Coder(level=Level(group=group), chunk=20), _keys(entries)
    coded = coder.encode(keys, -keys, heads=HEADS, depth=0.5)
    for name, each in (("keys", keys), ("values", -keys)):
        ours, theirs = coded.codes(name), coder.level.encode(each, coder.level.bins(name, 0.5))
        assert torch.equal(ours.anchors, theirs.anchors)
        assert torch.equal(ours.others, theirs.others)
        torch.testing.assert_close(ours.decode(keys), theirs.decode(keys), rtol=0, atol=0)
    assert torch.equal(type(coded).restore(coded.tensors()).keys(), coded.codes("keys").decode(keys))


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16])
def test_numbers_come_back_within_half_a_bin(kind: torch.dtype) -> None:
    keys, level = _keys(60).to(kind), Level(group=10)
    codes = level.encode(keys, 32)
    back = codes.decode(keys)
    assert back.dtype == kind
    first = torch.arange(60) % 10 == 0
    anchors = 0.51 * codes.anchor_scale[..., None] / 127
    others = 0.51 * codes.other_scale[..., None] / 15
    slack = 0.02 * keys.abs().double() if kind == torch.bfloat16 else 1e-5
    error = (back.double() - keys.double()).abs()
    slack = torch.as_tensor(slack).expand_as(error)
    assert (error[:, first] <= anchors + slack[:, first]).all()
    assert (error[:, ~first] <= others + slack[:, ~first]).all()


def test_differences_from_an_anchor_are_nearer_where_neighbours_are_alike() -> None:
    keys = _keys(200)
    near, alone = (Level(group=group).encode(keys, 16).decode(keys) for group in (10, 0))
    assert (near - keys).square().mean() < 0.5 * (alone - keys).square().mean()


def test_a_cache_is_saved_in_fewer_bytes_and_read_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=3)
    heads: dict[str, Any] = dict(num_attention_heads=4, num_key_value_heads=2)
    model = LlamaForCausalLM(LlamaConfig(**sizes, **heads)).eval()
    text = torch.randint(0, 60, (2, 300))
    with torch.no_grad(), attach(model) as attached:
        cache = attached.cache()
        model(text[:, :290], past_key_values=cache)
        cache.save(tmp_path / "whole")
        cache.save(tmp_path / "coded", coder=Coder(chunk=100))
        again = attached.load(tmp_path / "coded")
        want = model(text[:, 290:], past_key_values=cache).logits
        have = model(text[:, 290:], past_key_values=again).logits
    whole, coded = ((tmp_path / name).stat().st_size for name in ("whole", "coded"))
    assert coded < 0.4 * whole
    assert (have - want).square().mean() < 1e-3 * want.square().mean()


def test_a_past_with_several_exact_stores_is_saved_coded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = dict(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2)
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2)).eval()
    text = torch.randint(0, 32, (1, 60))
    with torch.no_grad(), attach(model, Quantize(sinks=2, recent=4, every=8)) as attached:
        cache = attached.cache()
        model(text[:, :50], past_key_values=cache)
        cache.save(tmp_path / "coded", coder=Coder(chunk=20))
        again = attached.load(tmp_path / "coded")
        want = model(text[:, 50:], past_key_values=cache).logits
        have = model(text[:, 50:], past_key_values=again).logits
    assert (have - want).square().mean() < 1e-3 * want.square().mean()


def test_a_trace_takes_as_long_as_its_rates_say() -> None:
    line = Trace(rates=(10.0, 1.0), step_s=2.0)
    assert line.seconds(15.0, 0.0) == pytest.approx(1.5)
    assert line.seconds(22.0, 0.0) == pytest.approx(4.0)
    assert line.seconds(23.0, 0.0) == pytest.approx(4.1)
    assert line.seconds(1.0, 3.5) == pytest.approx(0.5 + 0.05)


def test_the_best_level_that_arrives_in_time_is_chosen() -> None:
    left = [Chunk(sizes=(40, 20, 10), text=1, seconds=5.0)] * 2
    assert choose(left, remaining_s=20.0, rate=1.0) == -1
    assert choose(left, remaining_s=9.0, rate=10.0) == 0
    assert choose(left, remaining_s=9.0, rate=5.0) == 1
    assert choose(left, remaining_s=9.0, rate=1.0) == 2
    assert send(left * 4, Trace(rates=(100.0,)), deadline_s=4.0).levels == (1, *[0] * 7)
    assert send(left * 4, Trace(rates=(100.0, 50.0)), deadline_s=4.0).seconds <= 4.0
    assert send(left, Trace(rates=(10.0,)), deadline_s=1.0, level=2).seconds == pytest.approx(2.0)


def test_without_the_range_coder_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "constriction":
            raise ModuleNotFoundError(name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"attime\[coding\]"):
        Coder().encode(_keys(20), _keys(20), heads=HEADS, depth=0.0)


@pytest.mark.parametrize("options", [{"group": 1}, {"keys": ((0.5, 32),)}, {"values": ((1.0, 2),)}])
def test_levels_that_cannot_be_are_told(options: dict[str, Any]) -> None:
    with pytest.raises(AttimeError, match="Level needs"):
        Level(**options)
    with pytest.raises(AttimeError, match="multiple of the level's group"):
        Coder(chunk=15)
    with pytest.raises(AttimeError, match="positive rates"):
        Trace(rates=())
