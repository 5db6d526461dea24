"""Contexts side by side: one is reading on, their order is nothing, temperature and scale are the two-part merge."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from attime.attention.kernels.merge import partial
from attime.errors import AttimeError
from attime.hub import attach
from attime.hub.attached import Attached
from attime.hub.cache import MemoryCache
from attime.memory import Policy, chain
from attime.memory.evict import SinkWindow
from attime.memory.joined import join
from attime.memory.past import Past
from attime.memory.place import Contiguous
from attime.memory.quantize import Quantize, ThinKeys
from attime.memory.reader import read
from attime.memory.retrieve import Recycled, Retrieve

LENGTHS = (9, 14, 5)
WINDOW = SinkWindow(sinks=2, window=14, every=4)
BLOCKS = Retrieve(sinks=2, window=14, block=4, blocks=2, every=4)


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    sizes: dict[str, Any] = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2)
    return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)).eval()


def _ids(time: int, seed: int) -> Tensor:
    return torch.randint(0, 60, (2, time), generator=torch.Generator().manual_seed(seed))


def _read(attached: Attached, prefix: MemoryCache, order: tuple[int, ...]) -> list[MemoryCache]:
    caches = [prefix.copy() for _ in order]
    for number, cache in zip(order, caches, strict=True):
        attached.model(_ids(LENGTHS[number], number), past_key_values=cache)
    return caches


def _begun(attached: Attached) -> MemoryCache:
    cache = attached.cache()
    attached.model(_ids(6, 9), past_key_values=cache)
    return cache


@torch.no_grad()
def test_one_context_is_reading_on(model: Any) -> None:
    with attach(model) as attached:
        prefix = _begun(attached)
        [alone] = _read(attached, prefix, (1,))
        joined = prefix.join([alone], temperature=1.0, scale=1.0)
        assert joined.get_seq_length() == 20
        want = model(_ids(7, 5), past_key_values=alone).logits
        have = model(_ids(7, 5), past_key_values=joined).logits
    torch.testing.assert_close(have, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "policy",
    [chain(WINDOW, Contiguous()), BLOCKS, Quantize(bits=8, sinks=2, recent=3, every=4), WINDOW],
    ids=lambda each: type(each).__name__,
)
@torch.no_grad()
def test_one_context_is_reading_on_whatever_has_been_moved_before(model: Any, policy: Policy) -> None:
    with attach(model, policy) as attached:
        prefix = attached.cache()
        model(_ids(40, 9), past_key_values=prefix)
        alone = prefix.copy()
        model(_ids(2, 1), past_key_values=alone)
        joined = prefix.join([alone], temperature=1.0, scale=1.0)
        for seed in range(3):
            ids = _ids(5, seed)
            have, want = (model(ids, past_key_values=each).logits for each in (joined, alone))
            torch.testing.assert_close(have, want, rtol=0, atol=1e-5)


@torch.no_grad()
def test_contexts_that_cannot_be_seen_whole_are_refused_or_brought_near(model: Any) -> None:
    with attach(model, BLOCKS) as attached:
        prefix = _begun(attached)
        with pytest.raises(AttimeError, match="nothing is parked"):
            prefix.join(_read(attached, prefix, (0, 1)))
    with attach(model, Recycled(entries=4, every=64)) as attached:
        prefix = attached.cache()
        model(_ids(70, 9), past_key_values=prefix)
        answers = []
        for seed in (1, 2):
            context = prefix.copy()
            model(_ids(5, seed), past_key_values=context)
            answers.append(model(_ids(3, 4), past_key_values=prefix.join([context])).logits)
        assert not torch.allclose(*answers)


@torch.no_grad()
def test_the_order_of_contexts_is_nothing(model: Any) -> None:
    made = []
    with attach(model) as attached:
        prefix = _begun(attached)
        for order in ((0, 1, 2), (2, 0, 1)):
            joined = prefix.join(_read(attached, prefix, order))
            first = model(_ids(3, 5), past_key_values=joined).logits
            rest = model.generate(torch.cat([_ids(20, 1), _ids(6, 7)], 1), past_key_values=joined, max_new_tokens=4)
            made.append((first, rest))
        assert prefix.get_seq_length() == 6
    torch.testing.assert_close(made[0][0], made[1][0], rtol=0, atol=1e-5)
    assert torch.equal(made[0][1], made[1][1])


def _parts() -> tuple[Past, list[Past], list[tuple[Tensor, Tensor]], tuple[Tensor, Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)

    def draw(time: int) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (torch.randn(1, h, time, 8, generator=generator, dtype=torch.float64) for h in (4, 2, 2))
        return q, k, v

    prefix, tensors = Past(heads=2), [draw(3)]
    read(prefix, chain(), *tensors[0])
    contexts = []
    for length in LENGTHS:
        past = Past(heads=2)
        read(past, chain(), *tensors[0])
        tensors.append(draw(length))
        read(past, chain(), *tensors[-1])
        contexts.append(past)
    return prefix, contexts, [(k, v) for _, k, v in tensors], draw(1)


@pytest.mark.parametrize(("temperature", "scale"), [(1.0, 1.0), (0.5, 1.0), (0.9, 0.7), (0.3, 0.4)])
def test_temperature_and_scale_are_the_merge_of_two_parts(temperature: float, scale: float) -> None:
    prefix, contexts, parts, (q, k, v) = _parts()
    joined = join(prefix, contexts, temperature=temperature, scale=scale)
    ours = read(joined, chain(), q, k, v)
    near_k, near_v = (torch.cat([parts[0][i], (k, v)[i]], dim=2) for i in (0, 1))
    far_k, far_v = (torch.cat([each[i] for each in parts[1:]], dim=2) for i in (0, 1))
    other, other_lse = partial(q, near_k, near_v)
    context, context_lse = partial(q / temperature, far_k, far_v)
    weights = torch.stack([scale * temperature * context_lse, other_lse]).softmax(0)[..., None]
    torch.testing.assert_close(ours, weights[0] * context + weights[1] * other)


def test_positions_go_on_behind_the_longest() -> None:
    prefix, contexts, _, (q, k, v) = _parts()
    joined = join(prefix, contexts)
    read(joined, chain(), q, k, v)
    place = joined.banks[0].place
    assert place is not None
    assert place.now[0, :, 0].tolist() == [0, 1, 2, *range(3, 12), *range(3, 17), *range(3, 8), 17]
    assert joined.seen == 3 + 28 + 1
    assert prefix.seen == 3
    assert [past.seen for past in contexts] == [12, 17, 8]


@torch.no_grad()
@pytest.mark.parametrize("more", [(), (ThinKeys(recent=2, observed=3, every=4),)])
def test_it_goes_on_in_bounded_memory_and_is_saved(model: Any, tmp_path: Path, more: Any) -> None:
    with attach(model, chain(SinkWindow(sinks=4, window=44, every=8), Contiguous(), *more)) as attached:
        prefix = _begun(attached)
        joined = prefix.join(_read(attached, prefix, (0, 1, 2)))
        joined.save(tmp_path / "joined")
        again = attached.load(tmp_path / "joined")
        text = _ids(60, 3)
        want = model(text, past_key_values=joined).logits
        have = torch.cat([model(part, past_key_values=again).logits for part in text.split(7, dim=1)], dim=1)
        assert max(line.kept for line in joined.ledger()) <= 48
    torch.testing.assert_close(have, want, rtol=0, atol=1e-5)


@torch.no_grad()
def test_what_cannot_be_joined_is_told(model: Any) -> None:
    with attach(model) as attached:
        prefix = _begun(attached)
        caches = _read(attached, prefix, (0, 1))
        with pytest.raises(AttimeError, match="temperature > 0"):
            prefix.join(caches, temperature=0.0)
        with pytest.raises(AttimeError, match="by themselves"):
            prefix.join([prefix.join(caches), caches[0]])
        with pytest.raises(AttimeError, match="same rows"):
            prefix.join([attached.cache()])
