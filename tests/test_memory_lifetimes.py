"""Copies, rows that go, gradients, inference mode and chains of parts that touch each other's work."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from attime.errors import AttimeError
from attime.hub import attach
from attime.laws.memory import walk
from attime.memory import Policy, chain
from attime.memory.evict import Compensate, Evict, KeyNorm, Random, Received, SinkWindow
from attime.memory.merge import Nearest
from attime.memory.past import Past, Scoring
from attime.memory.place import Contiguous
from attime.memory.quantize import Quantize, ThinKeys
from attime.memory.reader import read
from attime.memory.retrieve import OnDisk, Recycled, Retrieve
from attime.memory.rotary import Rotary

BLOCKS = Retrieve(sinks=2, window=14, block=4, blocks=3, every=4)
DROP = Evict(score=KeyNorm(), budget=16, sinks=2, recent=3, every=4)


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    sizes: dict[str, Any] = dict(vocab_size=32, hidden_size=32, intermediate_size=48, num_hidden_layers=2)
    return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)).double().eval()


def words(rows: int, length: int) -> Tensor:
    return torch.randint(0, 32, (rows, length), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_rows_that_go_free_what_they_had_parked(model: Any) -> None:
    with attach(model, BLOCKS) as attached:
        cache = attached.cache()
        model(words(8, 200), past_key_values=cache)
        whole = cache.nbytes
        cache.batch_select_indices(torch.tensor([3]))
        assert cache.nbytes < whole / 7
        held = dict[int, int]()
        walk([past.banks for _, past in cache.pasts], set(), held)
        assert sum(held.values()) == pytest.approx(cache.nbytes, rel=0.02)
        alone = attached.cache()
        model(words(8, 200)[3:4], past_key_values=alone)
        same = (model(words(1, 9), past_key_values=each).logits for each in (cache, alone))
        torch.testing.assert_close(*same)


@torch.no_grad()
def test_copies_of_copies_go_on_for_ever(model: Any) -> None:
    ids = words(1, 1200)
    with attach(model, BLOCKS) as attached:
        cache = attached.cache()
        for token in ids[:, :1100].split(1, dim=1):
            cache = cache.copy()
            model(token, past_key_values=cache)
        want = model(ids).logits[:, 1100:]
        torch.testing.assert_close(model(ids[:, 1100:], past_key_values=cache).logits, want)


@pytest.mark.parametrize(
    "policy",
    [
        Evict(score=KeyNorm(), budget=16, sinks=2, recent=3, every=4, action=Compensate()),
        Evict(score=KeyNorm(), budget=16, sinks=2, recent=3, every=4, action=Nearest(least=-1.0)),
        BLOCKS,
        chain(SinkWindow(sinks=2, window=14, every=4), Contiguous()),
    ],
    ids=lambda each: repr(each)[:60],
)
def test_gradients_are_those_of_one_pass(model: Any, policy: Policy) -> None:
    ids, found = words(1, 40), []
    with attach(model, policy) as attached:
        for size in (40, 7, 1):
            model.zero_grad()
            cache, out = attached.cache(), []
            for part in ids.split(size, dim=1):
                out.append(model(part, past_key_values=cache).logits)
                cache = cache.copy() if size == 7 else cache
            torch.cat(out, dim=1).square().mean().backward()
            found.append(torch.cat([each.grad.flatten() for each in model.parameters()]))
    for each in found[1:]:
        torch.testing.assert_close(each, found[0])


@pytest.mark.parametrize("policy", [SinkWindow(sinks=2, window=14, every=4), BLOCKS, DROP, Quantize(every=4, recent=3)])
def test_what_inference_mode_has_read_goes_on_outside(model: Any, policy: Policy) -> None:
    ids = words(1, 60)
    with attach(model, policy) as attached:
        cache = attached.cache()
        with torch.inference_mode():
            model(ids[:, :30], past_key_values=cache)
        with torch.no_grad():
            made = torch.cat([model(each, past_key_values=cache).logits for each in ids[:, 30:].split(1, dim=1)], dim=1)
            torch.testing.assert_close(made, model(ids).logits[:, 30:])


@torch.no_grad()
def test_parts_of_a_store_that_share_tensors_are_saved(model: Any, tmp_path: Any) -> None:
    action = Evict(score=KeyNorm(), budget=24, sinks=2, recent=9, every=4, action=Compensate())
    with attach(model, chain(ThinKeys(recent=3, observed=3, every=4), action)) as attached:
        cache = attached.cache()
        model(words(1, 80), past_key_values=cache)
        cache.save(tmp_path / "past")
        again = attached.load(tmp_path / "past")
        same = (model(words(1, 9), past_key_values=each).logits for each in (cache, again))
        torch.testing.assert_close(*same)


@torch.no_grad()
def test_attention_to_recycled_entries_is_noted_for_all(model: Any) -> None:
    ids = words(1, 40)
    with attach(
        model, chain(Evict(score=Received(), budget=200, every=100), Recycled(entries=8, every=10))
    ) as attached:
        cache = attached.cache()
        model(ids, past_key_values=cache)
        [bank] = cache.memory[0].pasts[0][1].banks
        assert bank.received is not None
        torch.testing.assert_close(bank.received.now.sum(1), torch.full((2,), 80.0))


@torch.no_grad()
@pytest.mark.parametrize("time", [61, 67, 71, 73, 79])
def test_a_windows_mask_knows_the_tokens_of_blocks_with_gaps(time: int) -> None:
    generator, rotary = torch.Generator().manual_seed(0), Rotary(0.1 ** torch.arange(4, dtype=torch.float64))
    q, k = (torch.randn(1, 1, time, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    value = torch.nn.functional.one_hot(torch.arange(time), time)[None, None].double()  # outputs are weights of tokens
    past, some = Past(heads=1, rotate=rotary), Evict(score=Random(seed=1), budget=18, sinks=2, recent=3, every=6)
    policy = chain(some, Retrieve(sinks=2, window=14, block=4, blocks=99, every=4))
    out = read(past, policy, q, k, value, scoring=Scoring(scale=0.1, window=30))[0, 0, -1]
    [bank] = past.banks
    assert bank.parked is not None
    when = bank.parked.blocks.when
    assert when is not None
    there = torch.cat([bank.when.now[0], when.now[0].flatten()])
    assert out.nonzero()[:, 0].tolist() == sorted(there[there >= time - 30].tolist())


@torch.no_grad()
def test_other_policies_leave_what_is_brought_back_in_its_gap(model: Any) -> None:
    ids = words(1, 64)
    for policy in (
        chain(BLOCKS, Evict(score=KeyNorm(), budget=18, sinks=2, recent=3, every=6)),
        chain(BLOCKS, Contiguous()),
    ):
        with attach(model, policy) as attached:
            cache = attached.cache()
            for token in ids.split(1, dim=1):
                model(token, past_key_values=cache)
                [bank] = cache.memory[0].pasts[0][1].banks
                if bank.parked is not None and bank.parked.entries >= 12 and bank.length > 2:
                    assert bank.shift is not None
                    sinks = bank.when.now[:, :2] + bank.shift[:, :2]
                    room = 3 * bank.parked.blocks.spread()[:, 0].double()
                    whole = (bank.when.now[:, 2] - bank.when.now[:, 1] - 1).double()
                    torch.testing.assert_close(bank.when.now[:, 2] - sinks[:, 1] - 1, torch.minimum(room, whole))


def test_one_place_for_what_is_parked() -> None:
    with pytest.raises(AttimeError, match="got two"):
        chain(BLOCKS, Retrieve(where=OnDisk()))
