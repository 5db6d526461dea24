"""Eviction: scores are what their sources say, budgets are met in entries and bytes, actions keep what they promise."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from attime.errors import AttimeError
from attime.hub import attach, attending
from attime.lens import attention_map, copied_share, echo, gated_attention, induction
from attime.memory import Policy, chain
from attime.memory.buffer import Buffer
from attime.memory.evict import (
    Action,
    Adaptive,
    Bytes,
    Compensate,
    Drop,
    Evict,
    Expected,
    KeyNorm,
    LastQuery,
    ObservedWindow,
    PerHead,
    PerLayer,
    Pyramid,
    Random,
    Received,
    Recency,
    Score,
    SinkWindow,
)
from attime.memory.merge import Convolution, Mixing
from attime.memory.past import Bank, Past
from attime.memory.place import Contiguous
from attime.memory.quantize import ThinKeys
from attime.memory.reader import read
from attime.memory.rotary import Rotary
from attime.memory.store import Exact, Store

ROWS, HEADS, GROUPS, TIME, DIM = 2, 3, 2, 50, 8
ROTARY = Rotary(0.3 ** torch.arange(DIM // 2, dtype=torch.float64))


def stream(time: int = TIME, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(ROWS, h, time, DIM, generator=random, dtype=dtype) for h in (HEADS * GROUPS, HEADS, HEADS))
    return q, k, v


def rated(score: Score, **given: object) -> Tensor:
    """Rates (batch heads entries) after everything has come and nothing has gone."""
    q, k, v = stream()
    past = Past(heads=HEADS, **given)  # type: ignore[arg-type]
    read(past, chain(Evict(score=score, budget=1000, every=TIME)), q, k, v)
    return score.rate(past)[0].view(ROWS, HEADS, TIME)


def maps() -> Tensor:
    q, k, _ = stream()
    return attention_map(q, k, scale=1 / math.sqrt(DIM))


def per_head(each: Tensor) -> Tensor:
    return each.unflatten(1, (HEADS, GROUPS))


def test_rates_are_those_of_the_sources() -> None:
    whole, (_, k, _) = maps(), stream()
    torch.testing.assert_close(rated(KeyNorm()), -k.norm(dim=-1))
    received = per_head(whole).sum((2, 3))
    torch.testing.assert_close(rated(Received()).double(), received, rtol=1e-5, atol=1e-6)
    had = received / torch.arange(TIME, 0, -1)
    torch.testing.assert_close(rated(Received(per_query=True)).double(), had, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(rated(LastQuery(per_head=True)), per_head(whole)[:, :, :, -1].mean(2))
    shared = whole[:, :, -1].mean(1, keepdim=True).expand(-1, HEADS, -1)
    torch.testing.assert_close(rated(LastQuery()), shared)


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_the_observed_window_is_pooled_attention_of_the_last_queries(pool: str) -> None:
    window, width = 9, 5
    ours = rated(ObservedWindow(window=window, width=width, pool=pool))  # type: ignore[arg-type]
    seen = per_head(maps()[:, :, -window:]).mean((2, 3))
    around = torch.nn.functional.pad(seen, (2, 2)).unfold(2, width, 1)
    naive = around.mean(-1) if pool == "mean" else around.amax(-1)
    before = slice(0, TIME - window - width // 2)
    torch.testing.assert_close(ours[..., before], naive[..., before])


def test_expected_attention_is_the_mean_of_a_gaussian() -> None:
    observed, ahead = 12, 7
    q, k, v = stream()
    plain = torch.stack([ROTARY(q[:, :, t], torch.full((1, 1), -t)) for t in range(TIME)], dim=2)
    turn = torch.stack(
        [ROTARY(torch.eye(DIM, dtype=q.dtype)[None], torch.full((1, 1), TIME - 1 + f))[0] for f in range(1, ahead + 1)]
    )
    recent, mean_turn = plain[:, :, -observed:], turn.mean(0)
    mean = recent.mean(2)
    spread = torch.stack([torch.stack([torch.cov(head.T, correction=0) for head in row]) for row in recent])
    mean, spread = mean @ mean_turn, mean_turn.T @ spread @ mean_turn
    keys = k.repeat_interleave(GROUPS, 1)
    logits = torch.einsum("bhtd,bhd->bht", keys, mean) / math.sqrt(DIM)
    logits += torch.einsum("bhtd,bhde,bhte->bht", keys, spread, keys) / DIM / 2
    naive = per_head(logits.softmax(-1)).mean(2)
    torch.testing.assert_close(rated(Expected(observed=observed, ahead=ahead, values=False), rotate=ROTARY), naive)
    torch.testing.assert_close(rated(Expected(observed=observed, ahead=ahead), rotate=ROTARY), naive * v.norm(dim=-1))


def test_what_stays_is_sinks_recent_and_the_best_of_the_rest() -> None:
    q, k, v = stream()
    past = Past(heads=HEADS)
    read(past, chain(Evict(score=KeyNorm(), budget=12, sinks=2, recent=3, every=1)), q, k, v)
    for lane, keys in enumerate(k.flatten(0, 1)):
        kept: list[int] = []
        for now in range(TIME):
            kept.append(now)
            while len(kept) > 11:
                kept.remove(max(kept[2:-3], key=lambda each: float(keys[each].norm())))
        assert past.banks[0].when.now[lane].tolist() == kept


def test_random_keeps_old_and_new_alike() -> None:
    rates = rated(Random())
    assert (rates > 0.5).double().mean().sub(0.5).abs() < 0.1
    assert (rates[0, 0] > rates[0, 1]).any()
    assert (rates[0, 0] < rates[0, 1]).any()
    assert torch.equal(rates[0], rates[1])
    assert not torch.equal(rates, rated(Random(seed=1)))


def test_heads_share_a_budget_by_score() -> None:
    q, k, v = stream()
    k[:, 0] *= 3  # attention of the first head is on few keys
    past, budget = Past(heads=HEADS), Adaptive(entries=20 + TIME, floor=0.2)
    policy = Evict(score=Received(), budget=budget, sinks=1, recent=1, every=TIME)
    whole = attention_map(q, k, scale=1 / math.sqrt(DIM)).unflatten(1, (HEADS, GROUPS)).sum((2, 3))
    read(past, chain(policy), q, k, v)
    assert past.kept().view(ROWS, HEADS).sum(1).tolist() == [20 * HEADS] * ROWS
    for row in range(ROWS):
        best = {(head, slot) for head in range(HEADS) for slot in (0, TIME - 1)}
        best |= {(head, int(slot)) for head in range(HEADS) for slot in whole[row, head].topk(4).indices}
        best |= {divmod(int(each), TIME) for each in whole[row].flatten().argsort(descending=True)[: 20 * HEADS]}
        kept = {
            (lane % HEADS, slot)
            for bank in past.banks
            for lane, when in zip(bank.lanes.tolist(), bank.when.now.tolist(), strict=True)
            for slot in when
            if lane // HEADS == row
        }
        assert kept <= best
        assert min(len([each for each in kept if each[0] == head]) for head in range(HEADS)) >= 4


def test_named_heads_keep_everything_and_the_others_a_window() -> None:
    q, k, v = stream()
    past, policy = Past(heads=HEADS, layers=2), PerHead(heads=((0, 1), (1, 0)), others=14)
    ours = read(past, chain(Evict(score=Recency(), budget=policy, sinks=2, recent=1, every=1)), q, k, v)
    values = v.repeat_interleave(GROUPS, 1)
    full = maps() @ values
    near = attention_map(q, k, scale=1 / math.sqrt(DIM), sinks=2, window=12) @ values
    named = torch.arange(HEADS * GROUPS) // GROUPS == 1
    torch.testing.assert_close(ours, torch.where(named[:, None, None], full, near), rtol=0, atol=1e-9)
    assert past.kept().view(ROWS, HEADS).tolist() == [[13, TIME, 13]] * ROWS
    gates = named[::GROUPS].double()
    gated = gated_attention(q, k, v, gates, scale=1 / math.sqrt(DIM), sinks=2, window=12)
    torch.testing.assert_close(ours, gated, rtol=0, atol=1e-9)


def test_layers_share_a_budget() -> None:
    kept = []
    for budget in (PerLayer(entries=(30, 22, 14)), Pyramid(first=30, last=14)):
        pasts = [Past(heads=HEADS, layer=layer, layers=3) for layer in range(3)]
        for past in pasts:
            read(past, chain(Evict(score=Recency(), budget=budget, sinks=2, recent=2, every=10)), *stream())
        kept.append([int(past.kept()[0]) for past in pasts])
    assert kept == [[20, 12, 4]] * 2
    with pytest.raises(AttimeError, match="3 budgets and the model 1 layers"):
        read(
            Past(heads=HEADS),
            chain(Evict(score=Recency(), budget=PerLayer(entries=(9, 9, 9)), recent=1, every=4)),
            *stream(),
        )


@pytest.mark.parametrize("score", [KeyNorm(), Received(), ObservedWindow(window=8)])
def test_a_budget_in_bytes_is_never_passed_and_is_used(score: Score) -> None:
    total, held = 2 * HEADS * 100_000, []
    past = Past(heads=HEADS, layers=2)
    policy = chain(Evict(score=score, budget=Bytes(total=total), every=16))
    q, k, v = stream(1200)
    for part in zip(*(each.split(7, dim=2) for each in (q, k, v)), strict=True):
        read(past, policy, *part)
        held.append(past.nbytes)
    most = ROWS * total / past.layers
    assert max(held) <= most
    assert held[-1] > 0.98 * most


def test_the_mean_of_equal_entries_is_exact() -> None:
    q, k, v = stream()
    k[:, :, 2:] = k[:, :, 2:3]
    v[:, :, 2:] = v[:, :, 2:3]
    past, policy = Past(heads=HEADS), Evict(score=Recency(), budget=9, action=Compensate(), sinks=2, recent=2, every=3)
    torch.testing.assert_close(read(past, chain(policy), q, k, v), maps_of(q, k) @ v.repeat_interleave(GROUPS, 1))
    assert int(past.kept().max()) <= 9


def maps_of(q: Tensor, k: Tensor) -> Tensor:
    return attention_map(q, k, scale=1 / math.sqrt(DIM))


@pytest.mark.parametrize("score", [Recency(), KeyNorm()])
@pytest.mark.parametrize("budget", [12, PerHead(heads=((0, 2),), others=12)])
def test_masses_count_every_token(score: Score, budget: int | PerHead) -> None:
    q, k, v = stream()
    past, policy = Past(heads=HEADS), Evict(score=score, budget=budget, action=Compensate(), sinks=1, recent=2, every=4)
    read(past, chain(policy), q, k, v)
    for bank in past.banks:
        mass = torch.ones(len(bank.lanes), bank.length) if bank.log_mass is None else bank.log_mass.now.exp()
        torch.testing.assert_close(
            mass.sum(1).double(), torch.full((len(mass),), float(TIME), dtype=torch.float64), rtol=1e-6, atol=0
        )
        for lane in range(len(bank.lanes)):
            gone = sorted(set(range(TIME)) - set(bank.when.now[lane].tolist()))
            if gone:
                whole = k.flatten(0, 1)[bank.lanes[lane]]
                mean = whole[sorted([*gone, int(bank.when.now[lane, 1])])].mean(0)
                torch.testing.assert_close(bank.keys()[lane, 1], mean, rtol=1e-5, atol=1e-6)


def keys_by_lane(past: Past) -> dict[int, Tensor]:
    """Keys as they came, of every lane."""
    return {int(lane): keys for bank in past.banks for lane, keys in zip(bank.lanes, bank.keys(), strict=True)}


def test_keys_are_as_they_came_wherever_they_are_read() -> None:
    evict = Evict(score=Recency(), budget=20, action=Compensate(), sinks=2, recent=8, every=4)
    pasts = [Past(heads=HEADS, rotate=ROTARY) for _ in range(2)]
    _, k, _ = stream()
    plain, _ = (
        read(past, policy, k.repeat_interleave(GROUPS, 1), *stream()[1:])
        for past, policy in zip(pasts, (chain(evict), chain(evict, Contiguous())), strict=True)
    )
    assert plain.isfinite().all()
    assert pasts[1].banks[0].origin is not None, "some are read elsewhere"
    for name in ("when", "log_mass"):
        one, two = (getattr(past.banks[0], name).now for past in pasts)
        assert torch.equal(one, two)
    torch.testing.assert_close(pasts[1].banks[0].keys(), pasts[0].banks[0].keys(), rtol=0, atol=1e-9)
    torch.testing.assert_close(pasts[1].banks[0].keys(9), pasts[0].banks[0].keys(9), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "score", [Expected(observed=3, ahead=9), LastQuery(), ObservedWindow(window=3, width=3), KeyNorm()]
)
@pytest.mark.parametrize("action", [Compensate(), Drop()])
def test_a_row_is_read_as_it_is_alone_under_policies_that_move_and_drop(score: Score, action: Action) -> None:
    second = Evict(score=score, budget=Adaptive(entries=17, floor=0.2), action=action, sinks=0, recent=1, every=1)
    first = Evict(score=Recency(), budget=23, action=action, sinks=3, recent=4, every=1)
    q, k, v = stream(60)
    policy, whole = chain(first, second, Contiguous()), Past(heads=HEADS, rotate=ROTARY)
    together = read(whole, policy, q, k, v)
    for row in range(ROWS):
        past, part = Past(heads=HEADS, rotate=ROTARY), slice(row, row + 1)
        alone = read(past, policy, q[part], k[part], v[part])
        torch.testing.assert_close(together[part], alone, rtol=0, atol=1e-9)
        for lane, keys in keys_by_lane(past).items():
            torch.testing.assert_close(keys_by_lane(whole)[row * HEADS + lane], keys, rtol=0, atol=1e-9)


def test_losing_nothing_moves_nobody_back() -> None:
    q, k, v = stream()
    past = Past(heads=HEADS, rotate=ROTARY)
    read(past, chain(SinkWindow(sinks=2, window=20, every=4), Contiguous()), q, k, v)
    [bank] = past.banks
    read_at, shift = bank.exact.keys().clone(), bank.shift
    assert shift is not None
    past.drop([torch.ones_like(bank.when.now, dtype=torch.bool)], room=40)
    past.cut(0, 99, room=40)
    [bank] = past.banks
    assert bank.shift is shift
    assert torch.equal(bank.exact.keys(), read_at)
    mask = torch.ones_like(bank.when.now, dtype=torch.bool)
    mask[0, 5] = False
    past.drop([mask])
    lost, others = past.banks
    assert lost.shift is None
    torch.testing.assert_close(others.exact.keys(), read_at[1:])


def test_who_follows_acts_behind_who_drops() -> None:
    window, few, follower = SinkWindow(sinks=2, window=20, every=4), KeyNorm(), Contiguous()
    evict = Evict(score=few, budget=16, recent=3, every=4)
    assert chain(follower, window).policies == (window, follower)
    assert chain(follower, window, follower, evict).policies == (window, evict, follower, follower)
    thin = ThinKeys(recent=4, observed=4, every=4)
    assert chain(window, follower, thin).policies == (window, follower, thin)
    assert chain(follower).policies == (follower,)
    q, k, v = stream()
    ours, theirs = (
        read(Past(heads=HEADS, rotate=ROTARY), chain(*each), q, k, v)
        for each in ((follower, window), (window, follower))
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_compensation_is_nearer_to_full_attention_than_dropping() -> None:
    q, k, v = stream()
    q, k, v = q / 2, k / 2, v + 1
    full, wrong = maps_of(q, k) @ v.repeat_interleave(GROUPS, 1), []
    for action in (Drop(), Compensate()):
        policy = Evict(score=Recency(), budget=12, action=action, recent=1, every=1)
        wrong.append(float((read(Past(heads=HEADS), chain(policy), q, k, v) - full).square().mean()))
    assert wrong[1] < 0.5 * wrong[0]


class Foreign(Store):
    """Stands for any store that is not exact."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self._keys, self._values = keys, values

    @property
    def length(self) -> int:
        return self._keys.shape[1]

    @property
    def nbytes(self) -> int:
        return self._keys.nbytes + self._values.nbytes

    def keys(self) -> Tensor:
        return self._keys

    def values(self) -> Tensor:
        return self._values

    def select(self, kept: Tensor, *, room: int = 0) -> "Foreign":
        return Foreign(*(each.gather(1, kept[..., None].expand(-1, -1, 4)) for each in (self._keys, self._values)))

    def take(self, chosen: Tensor) -> "Foreign":
        return Foreign(self._keys[chosen], self._values[chosen])

    def tensors(self) -> dict[str, Tensor]:
        return {"keys": self._keys, "values": self._values}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor]) -> "Foreign":
        return cls(tensors["keys"], tensors["values"])


def test_an_entry_is_put_into_any_store() -> None:
    keys, values = torch.randn(2, 2, 9, 4)
    for slot in range(9):
        last = Exact(Buffer(keys[:, 4:]), Buffer(values[:, 4:]))
        stores = [Foreign(keys[:, :4], values[:, :4]), last]
        bank = Bank(lanes=torch.arange(2), stores=stores, when=Buffer(torch.arange(9).expand(2, -1)))
        bank.put(slot, torch.ones(2, 4), torch.zeros(2, 4))
        wanted = keys.clone()
        wanted[:, slot] = 1
        torch.testing.assert_close(bank.keys(), wanted, rtol=0, atol=0)
        assert bank.values()[:, slot].abs().max() == 0
        assert sum(store.length for store in bank.stores) == 9


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Evict(score=KeyNorm(), budget=100), "at least 132 entries"),
        (lambda: Evict(score=KeyNorm(), budget=Pyramid(first=2000, last=80)), "at least 132 entries"),
        (lambda: Evict(score=KeyNorm(), budget=132, action=Compensate()), "at least 133 entries"),
        (lambda: Evict(score=KeyNorm(), recent=0), "recent >= 1"),
        (lambda: Adaptive(floor=2.0), "between 0 and 1"),
        (lambda: ObservedWindow(width=4), "an odd width"),
        (lambda: Expected(ahead=0), "ahead >= 1"),
        (lambda: PerLayer(entries=()), "for each layer"),
        (lambda: run(Evict(score=KeyNorm(), budget=Bytes(total=1000), every=4)), "leaves 0 entries"),
        (lambda: run(Evict(score=KeyNorm(), budget=PerHead(heads=((0, 7),), others=99), every=4)), "names head 7"),
    ],
)
def test_bad_input_is_told_in_a_sentence(make: object, told: str) -> None:
    with pytest.raises(AttimeError, match=told) as error:
        make()  # type: ignore[operator]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        (Evict(score=KeyNorm(), budget=PerHead(heads=((1, 7),), others=20), recent=4, every=8), "names head 7"),
        (Evict(score=KeyNorm(), budget=PerLayer(entries=(40, 40, 40)), recent=4, every=8), "model 2 layers"),
        (Evict(score=KeyNorm(), budget=Bytes(total=3000), recent=4, every=8), "leaves 3 entries"),
        (
            Convolution(mixing=Mixing(layers=1, head_dim=8, slots=4), heavy=4, recent=4, every=8),
            "weights for 1 layers, and the model has 2",
        ),
    ],
)
@torch.no_grad()
def test_what_does_not_fit_the_model_is_told_before_the_first_token(
    model: LlamaForCausalLM, policy: Policy, told: str
) -> None:
    with attach(model, policy) as attached:
        cache = attached.cache()
        with pytest.raises(AttimeError, match=told):
            model(torch.arange(4)[None], past_key_values=cache)
        assert [past.seen for layer in cache.memory for _, past in layer.pasts] == [0]


@final
@dataclass(frozen=True, kw_only=True)
class Stumbling(Policy):
    """Cannot act in the second layer on more than 40 tokens."""

    every: int = 8

    def act(self, past: Past) -> None:
        if past.layer == 1 and past.seen > 40:
            raise AttimeError("Stumbling needs less than 40 tokens; got more: give it fewer.")

    @classmethod
    def examples(cls) -> "list[Stumbling]":
        return [cls()]


@torch.no_grad()
def test_a_policy_that_cannot_act_leaves_all_layers_at_the_same_time(model: LlamaForCausalLM) -> None:
    ids = torch.randint(0, 64, (1, 90), generator=torch.Generator().manual_seed(1))
    with attach(model, Stumbling()) as attached:
        cache = attached.cache()
        model(ids[:, :20], past_key_values=cache)
        model(ids[:, 20:70], past_key_values=cache)
        pasts = [past for layer in cache.memory for _, past in layer.pasts]
        with pytest.raises(AttimeError, match="give it fewer"):
            model(ids[:, 70:], past_key_values=cache)
        assert [past.seen for past in pasts] == [70, 70]
        rest = model(ids[:, 70:73], past_key_values=cache).logits
    torch.testing.assert_close(rest, model(ids).logits[:, 70:73], rtol=0, atol=1e-5)


def run(policy: Policy) -> Tensor:
    return read(Past(heads=HEADS), chain(policy), *stream())


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes: dict[str, Any] = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2)
    return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)).eval()


@pytest.mark.parametrize(
    "policy",
    [
        Evict(score=Expected(observed=16, ahead=16), budget=32, recent=4, every=8),
        Evict(score=LastQuery(per_head=True), budget=Adaptive(entries=32), recent=4, every=8),
        chain(
            Evict(score=ObservedWindow(window=8), budget=Pyramid(first=40, last=24), recent=8, every=8), Contiguous()
        ),
        Evict(score=Recency(), budget=PerHead(heads=((1, 0),), others=24), action=Compensate(), recent=4, every=8),
    ],
)
@torch.no_grad()
def test_a_model_reads_in_any_chunks(model: LlamaForCausalLM, policy: Policy) -> None:
    ids = torch.randint(0, 64, (2, 90), generator=torch.Generator().manual_seed(1))
    with attach(model, policy) as attached:
        whole = model(ids).logits
        cache, parts = attached.cache(), []
        for part in ids.split([37, 1, 1, 40, 11], dim=1):
            parts.append(model(part, past_key_values=cache).logits)
    assert (torch.cat(parts, dim=1) - whole).abs().max() < 1e-5


@torch.no_grad()
def test_attention_as_a_function_is_the_models_own_and_is_put_back(model: LlamaForCausalLM) -> None:
    ids = torch.randint(0, 64, (2, 30), generator=torch.Generator().manual_seed(1))
    before, layers = model(ids).logits, []

    def plain(layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        layers.append(layer)
        return attention_map(q, k, scale=scale) @ v.repeat_interleave(q.shape[1] // k.shape[1], 1)

    with attending(model, plain):
        torch.testing.assert_close(model(ids).logits, before, rtol=0, atol=1e-5)
        first = model(ids[:, :20], use_cache=True)
        rest = model(ids[:, 20:], past_key_values=first.past_key_values).logits
        torch.testing.assert_close(rest, before[:, 20:], rtol=0, atol=1e-5)
        with pytest.raises(AttimeError, match="without padding"):
            model(ids, attention_mask=(ids > 5).long())
    assert layers[:2] == [0, 1]
    torch.testing.assert_close(model(ids).logits, before, rtol=0, atol=0)


def test_measures_of_retrieval_on_maps_that_are_known() -> None:
    period, time = 5, 20
    random, after = torch.zeros(1, 3, time, time), torch.arange(time) - period
    rows = torch.arange(time)[after >= 0]
    random[0, 0, rows, after[rows]] = 1
    random[0, 1, rows, after[rows] + 1] = 1
    torch.testing.assert_close(echo(random, period=period), torch.tensor([[1.0, 0, 0]]))
    torch.testing.assert_close(induction(random, period=period), torch.tensor([[0, 1.0, 0]]))
    tokens, needle = torch.arange(10, 18)[None], (torch.arange(8) // 2 == 1)[None]
    steps = torch.zeros(1, 3, 2, 8)
    steps[0, 0, [0, 1], [2, 3]] = 1  # both of the needle's tokens
    steps[0, 1, [0, 1], [2, 2]] = 1  # one, twice; the second time another token is written
    steps[0, 2, [0, 1], [4, 5]] = 1  # beside the needle
    written = tokens[:, 2:4]
    torch.testing.assert_close(copied_share(steps, tokens, written, needle), torch.tensor([[1.0, 0.5, 0]]))
    swapped = copied_share(steps[:, [2, 0, 1]], tokens, written, needle)
    torch.testing.assert_close(swapped, torch.tensor([[0, 1.0, 0.5]]))
    with pytest.raises(AttimeError, match="period"):
        echo(random, period=1)
    with pytest.raises(AttimeError, match="for each key"):
        copied_share(steps, tokens[:, 1:], written, needle)
