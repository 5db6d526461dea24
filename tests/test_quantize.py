"""Quantised stores: bits really packed, errors within half a cell, nothing quantised twice, and whatever happens to entries."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from attime.errors import AttimeError
from attime.laws.memory import any_chunking_agrees, entries_stay_in_order, rows_do_not_see_each_other
from attime.memory import Policy, chain
from attime.memory.evict import Compensate, Evict, KeyNorm, LastQuery, SinkWindow
from attime.memory.packed import joined, pack, unpack
from attime.memory.past import Past
from attime.memory.place import Contiguous
from attime.memory.quantize import Quantize, Salience, Staircase
from attime.memory.quantize.interleaved import Interleaved
from attime.memory.quantize.quantized import Quantized
from attime.memory.reader import read
from attime.memory.saved import load_pasts, save_pasts
from attime.memory.store import Store

LANES, TIME, DIM, GROUP = 3, 24, 8, 6


def drawn(*sizes: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(sizes, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def quantized(bits: int = 4, *, seed: int = 0, separable: bool = False, time: int = TIME) -> Quantized:
    keys, values = drawn(LANES, time, DIM, seed=seed), drawn(LANES, time, DIM, seed=seed + 1)
    return Quantized.of(keys, values, bits=bits, group=GROUP, separable=separable)


def some(kept: int, seed: int = 5) -> Tensor:
    """Different entries in every lane."""
    random = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(TIME, generator=random)[:kept].sort().values for _ in range(LANES)])


def interleaved(seed: int = 0) -> Interleaved:
    made: Interleaved | None = None
    for start in range(0, TIME, GROUP):
        keys, values = (drawn(LANES, GROUP, DIM, seed=seed + start + side) for side in (0, 1))
        salient = drawn(LANES, GROUP, seed=start).argsort(dim=1) < 2
        group = Interleaved.of(keys, values, salient=salient, bits=(8, 2))
        made = group if made is None else made.join(group)
    assert made is not None
    return made


def reads_as_its_numbers(store: Store) -> None:
    q, weights = drawn(LANES, 5, DIM, seed=7), drawn(LANES, 5, store.length, seed=8)
    torch.testing.assert_close(store.logits(q), q @ store.keys().mT)
    torch.testing.assert_close(store.mixed(weights), weights @ store.values())


def run(policy: Policy, time: int, *, dim: int = DIM, dtype: torch.dtype = torch.float64) -> Past:
    past = Past(heads=2)
    q, k, v = (drawn(1, 2, max(time, 60), dim, seed=seed, dtype=dtype)[:, :, :time] for seed in range(3))
    read(past, chain(policy), q, k, v)
    return past


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_codes_come_back(bits: int) -> None:
    codes = torch.randint(0, 2**bits, (3, 5, 16), dtype=torch.uint8)
    packed = pack(codes, bits)
    assert packed.shape == (3, 5, 2 * bits)
    assert torch.equal(joined(unpack(packed, bits)), codes)


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_reading_codes_is_reading_numbers(bits: int, separable: bool) -> None:
    store = quantized(bits, separable=separable)
    for each in (store, store.select(some(11)), store.part(6, 18), store.part(4, 13), store.select(some(24))):
        reads_as_its_numbers(each)
    assert store.part(6, 18).group is None
    assert store.part(4, 13).group is not None


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_errors_are_within_half_a_cell(bits: int) -> None:
    store, keys, values = quantized(bits), drawn(LANES, TIME, DIM), drawn(LANES, TIME, DIM, seed=1)
    cell = keys.unflatten(1, (-1, GROUP)).aminmax(dim=2)
    width = (cell.max - cell.min).repeat_interleave(GROUP, dim=1) / 2**bits
    assert ((store.keys() - keys).abs() <= 0.5 * width + 4e-3).all()
    width = (values.amax(2) - values.amin(2))[..., None] / 2**bits
    assert ((store.values() - values).abs() <= 0.5 * width + 4e-3).all()


def test_fewer_bits_are_the_leading_bits() -> None:
    for few in (4, 2):
        for name, each in quantized(8).narrow(few).tensors().items():
            assert torch.equal(each, quantized(few).tensors()[name]), name


def test_extreme_numbers_do_not_break_it() -> None:
    keys = torch.stack([torch.zeros(6), torch.full((6,), 1e6), torch.arange(6) * 1e-7, torch.full((6,), -300.0)], dim=1)
    store = Quantized.of(keys[None], keys[None], bits=4, group=6)
    assert store.keys().isfinite().all()
    assert store.values().isfinite().all()
    torch.testing.assert_close(store.keys()[0, :, 3], keys[:, 3], rtol=2e-3, atol=0)


def test_stores_join_part_and_come_back() -> None:
    one, two = quantized(), quantized(seed=4, time=12)
    both = one.join(two)
    assert both.group is None
    torch.testing.assert_close(both.keys(), torch.cat([one.keys(), two.keys()], dim=1))
    ragged = one.select(some(7)).join(two)
    reads_as_its_numbers(ragged)
    torch.testing.assert_close(ragged.values(), torch.cat([one.select(some(7)).values(), two.values()], dim=1))
    for store in (both, ragged, interleaved(), interleaved().select(some(9))):
        again = type(store).restore(store.tensors())
        assert torch.equal(again.keys(), store.keys())
        order = torch.tensor([2, 0, 0])
        assert torch.equal(store.take(order).values(), store.values()[order])
        assert store.nbytes == sum(each.nbytes for each in store.tensors().values())


def test_interleaved_entries_stay_where_they_are() -> None:
    store = interleaved()
    reads_as_its_numbers(store)
    for kept in (some(9), some(5, seed=2), some(1)):
        left = store.select(kept)
        reads_as_its_numbers(left)
        torch.testing.assert_close(left.keys(), store.keys().take_along_dim(kept[..., None], dim=1))
        torch.testing.assert_close(left.values(), store.values().take_along_dim(kept[..., None], dim=1))
    assert store.high.length == 2 * (TIME // GROUP)
    more = store.select(some(9)).join(store)  # type: ignore[attr-defined]
    reads_as_its_numbers(more)


@pytest.mark.parametrize("policy", [Quantize(every=4, recent=4), Salience(every=4, recent=4)])
def test_nothing_is_quantised_twice(policy: Policy) -> None:
    early, late = (run(policy, time).banks[0].stores for time in (33, 60))
    assert torch.equal(early[0].keys(), drawn(1, 2, 60, DIM, seed=1)[0, :, :4]), "sinks are exact"
    assert torch.equal(early[-1].keys(), run(policy, 33).banks[0].exact.keys())
    assert torch.equal(early[1].keys(), late[1].keys()[:, : early[1].length])
    assert torch.equal(early[1].values(), late[1].values()[:, : early[1].length])
    assert late[1].length == 52


def test_asking_every_query_is_having_seen_all_attention() -> None:
    whole: dict[str, Any] = {"sinks": 0, "recent": 0, "every": 12}
    seen, asked = run(Salience(**whole), 12), run(Salience(**whole, probes=3, drawn=9), 12)
    torch.testing.assert_close(asked.banks[0].keys(), seen.banks[0].keys(), rtol=0, atol=0)
    few = [run(Salience(**whole, probes=1, drawn=2), 12).banks[0].keys() for _ in range(2)]
    torch.testing.assert_close(few[0], few[1], rtol=0, atol=0)  # the same queries are drawn again


def test_a_staircase_ends_as_if_it_had_begun_with_few_bits() -> None:
    falling = run(Staircase(ages=(4, 12, 24), every=4, sinks=2), 60).banks[0].stores
    direct = run(Quantize(bits=2, recent=4, every=4, sinks=2), 60).banks[0].stores
    assert [store.bits for store in falling[1:-1] if isinstance(store, Quantized)] == [2, 4, 8]
    lengths = [store.length for store in falling]
    assert lengths == [2, 32, 12, 8, 6]
    assert torch.equal(falling[1].keys(), direct[1].keys()[:, :32])


@pytest.mark.parametrize(
    "policy",
    [
        chain(
            Evict(score=KeyNorm(), budget=24, sinks=2, recent=6, every=4),
            Quantize(sinks=2, recent=4, every=4),
            Contiguous(),
        ),
        chain(Quantize(bits=2, sinks=2, recent=2, every=3), SinkWindow(sinks=2, window=20, every=4), Contiguous()),
        chain(SinkWindow(sinks=3, window=20, every=2), Contiguous(), Quantize(bits=8, sinks=1, recent=2, every=4)),
        chain(
            Staircase(ages=(3, 6, 12), sinks=2, every=3),
            Evict(score=LastQuery(), budget=22, sinks=2, recent=3, every=6),
        ),
        chain(Salience(sinks=2, recent=2, every=4), Evict(score=LastQuery(), budget=22, sinks=2, recent=3, every=4)),
        chain(
            Quantize(sinks=2, recent=2, every=4),
            Evict(score=KeyNorm(), budget=22, action=Compensate(), sinks=2, recent=3, every=4),
        ),
    ],
    ids=str,
)
def test_they_compose(policy: Policy) -> None:
    any_chunking_agrees(policy)
    entries_stay_in_order(policy)
    rows_do_not_see_each_other(policy)


def test_bytes_are_counted_and_few() -> None:
    past, whole = (run(policy, 2048, dim=32, dtype=torch.float32) for policy in (Quantize(recent=32), chain()))
    store = past.banks[0].stores[1]
    assert store.length == 1984
    assert store.nbytes == 2 * 1984 * (16 + 16 + 4) + 2 * 31 * 32 * 4
    assert store.nbytes <= 0.15 * 2 * 1984 * 2 * 32 * 4
    assert past.nbytes - past.banks[0].when.nbytes <= 0.21 * (whole.nbytes - whole.banks[0].when.nbytes)


def test_a_quantised_past_is_saved(tmp_path: Path) -> None:
    past = run(chain(Salience(every=4, recent=3), Quantize(bits=8, every=6, recent=1)), 50)
    save_pasts(tmp_path / "past", [past], model="m", policy="p", extra={})
    [again], _ = load_pasts(tmp_path / "past", model="m", policy="p")
    assert torch.equal(again.banks[0].keys(), past.banks[0].keys())
    assert again.nbytes <= past.nbytes


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_dtypes_are_kept(dtype: torch.dtype) -> None:
    past = run(Quantize(bits=8, every=8, recent=4), 40, dtype=dtype)
    assert past.banks[0].keys().dtype == dtype
    q, k, v = (drawn(1, 2, 1, DIM, seed=seed, dtype=dtype) for seed in range(3))
    assert read(past, chain(), q, k, v).dtype == dtype


def test_it_tells_mistakes() -> None:
    wrong = (
        lambda: Quantize(bits=3),
        lambda: Quantize(every=0),
        lambda: Staircase(bits=(8, 4), ages=(1, 2, 3)),
        lambda: Staircase(bits=(4, 8), ages=(1, 2)),
        lambda: Salience(high=2, low=4),
        lambda: Salience(every=1),
        lambda: Salience(mass=1.5),
        lambda: Salience(drawn=4),
        lambda: Salience(every=8, probes=4, drawn=5),
        lambda: run(Quantize(bits=2, every=4, recent=0), 12, dim=6),
    )
    for make in wrong:
        with pytest.raises(AttimeError) as told:
            make()
        assert "\n" not in str(told.value)
