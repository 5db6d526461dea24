"""Tasks: what they refuse, what their batches hold, and that the laws catch a task that cheats."""

# pyright: reportGeneralTypeIssues=false
# The faulty tasks below inherit from final ones on purpose.

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from attime.errors import AttimeError
from attime.laws.tasks import LAWS
from attime.streams import Corpus, Events, Series
from attime.tasks import Chorales, Forecast, Needle, NextEvent, NextItem, Recall, Text, Trajectories
from attime.tasks.contract import Batch
from attime.tasks.scores import hits, ranked
from attime.tasks.witten_bell import UNKNOWN, counted, witten_bell

LAW = {law.name: law for law in LAWS}
SERIES = Series(name="s", values=np.arange(200.0)[:, None] % 7, names=("a",), freq="1h")
EVENTS = Events(name="e", values=np.array([0, 1, 0]), offsets=np.array([0, 2, 3]), labels=("a", "b"))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Recall(length=63), "even length"),
        (lambda: Recall(vocabulary=10), r"vocabulary >= 2 pairs \+ 2.*vocabulary=10"),
        (lambda: Recall(pairs=0), "pairs >= 1"),
        (lambda: Needle(decoys=16), "keys > decoys"),
        (lambda: Needle(length=8), r"length >= 2 .decoys \+ 1. \+ 1 = 9.*length=8"),
        (lambda: Needle(depth=1.5), "depth from 0 to 1"),
        (lambda: Text.of(Text.examples()[0].corpus, overlap=256), "overlap < window"),
        (lambda: Text.of(Text.examples()[0].corpus, window=9000), "more than window=9000 bytes"),
        (lambda: Forecast.of(SERIES, lookback=0), "lookback >= 1"),
        (lambda: Forecast.of(SERIES, dense=97), "dense <= lookback"),
        (lambda: Forecast.of(SERIES, lookback=96, horizon=96), r"192 rows to train on .* s has 140 and 20.*shorter"),
        (lambda: Forecast.of(SERIES, target="b"), "no column 'b'; its number columns are a"),
        (lambda: Forecast(series=SERIES, borders=(50, 40, 60)), "borders that rise"),
        (lambda: NextItem.of(EVENTS), "at most 2 events per user"),
        (lambda: replace(NextItem.examples()[0], negatives=0), "negatives >= 1"),
        (lambda: NextEvent.of(EVENTS), "none for validation in e: 3 events of 2 kinds in 2 sequences"),
        (lambda: replace(Chorales.examples()[0], steps=0), "steps >= 1"),
        (lambda: Trajectories.public("mars"), "scenes eth, hotel, univ, zara1, zara2; got 'mars'"),
        (lambda: replace(Trajectories.examples()[0], past=4), "walks of 16 positions"),
        (lambda: Forecast.public("mars"), "no public data set 'mars'"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(make: Any, says: str) -> None:
    with pytest.raises(AttimeError, match=says) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_ties_are_a_coin() -> None:
    outputs = torch.tensor([[1.0, 1.0, 0.0], [0.0, 2.0, 1.0]])
    assert hits(outputs, torch.tensor([0, 1])).tolist() == [0.5, 1.0]
    rate, gain = ranked(torch.tensor([0, 9, 10, 8]), torch.tensor([0, 0, 0, 3]), 10)
    torch.testing.assert_close(rate, torch.tensor([1.0, 1.0, 0.0, 0.5], dtype=torch.float64))
    logs = 1 / torch.arange(2, 12, dtype=torch.float64).log2()
    torch.testing.assert_close(gain, torch.stack([logs[0], logs[9], 0 * logs[0], (logs[8] + logs[9]) / 4]))


def test_witten_bell_by_hand() -> None:
    symbols = np.array([0, 0, 1, 0])  # after context 5: 0, 1; nothing else is known
    tables = [counted(np.zeros(4, np.int64), symbols, 3), counted(np.array([UNKNOWN, 5, 5, UNKNOWN]), symbols, 3)]
    first = (np.array([3, 1, 0]) + 2 / 3) / 6
    second = (np.array([1, 1, 0]) + 2 * first) / 4
    found = witten_bell(tables, [np.zeros(3, np.int64), np.array([5, 7, UNKNOWN])], 3)
    np.testing.assert_allclose(found, [second, first, first], rtol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)


def test_recall_is_the_published_layout() -> None:
    task = Recall(length=64, vocabulary=64, pairs=8)
    batch = next(task.train(seed=0, batch=50))
    keys, values = batch.inputs[:, 0:16:2], batch.inputs[:, 1:16:2]
    assert bool(((keys >= 1) & (keys < 32)).all())
    assert bool((values >= 32).all())
    assert bool((batch.scored.sum(1) == 8).all()), "every pair is asked for once"
    places = batch.scored.nonzero()[:, 1]
    assert bool(((places >= 16) & (places % 2 == 0)).all())
    assert float((places - 16).float().mean()) < 24 - 4, "questions come early: the gaps have a power law"
    asked = batch.inputs[batch.scored].view(50, 8)
    assert torch.equal(asked.sort(dim=1).values, keys.sort(dim=1).values)


@pytest.mark.parametrize(("depth", "at"), [(0.0, 0), (1.0, 18)])
def test_the_needle_lies_where_it_should(depth: float, at: int) -> None:
    task = Needle(length=21, keys=6, values=5, noise=4, decoys=2, depth=depth)
    batch = next(task.train(seed=0, batch=64))
    places = (batch.inputs[:, :-1] == batch.inputs[:, -1:]).nonzero()[:, 1]
    assert places.tolist() == [at] * 64
    assert bool((batch.inputs < 6).sum(1).eq(4).all()), "three keys and the question"


def test_text_windows_tile_the_text() -> None:
    data = np.arange(250, dtype=np.uint8)
    corpus = Corpus(name="count", train=np.tile(data, 3), valid=data[:5], test=data)
    for window, overlap in ((40, 8), (7, 0), (250, 100), (300, 1)):
        task = Text.of(corpus, window=window, overlap=overlap)
        targets = torch.cat([batch.targets for batch in task.split("test", batch=3)])
        assert targets.tolist() == data.tolist()
        for batch in task.split("test", batch=3):
            places = batch.scored.nonzero()
            first = (batch.rows is not None) and batch.rows[places[:, 0]] == 0
            assert bool(((places[:, 1] >= min(overlap, window - 1)) | first).all())


def test_dense_windows_hold_what_follows_each_place() -> None:
    task = Forecast.of(
        Series(name="count", values=np.arange(100.0)[:, None], names=("a",)), lookback=8, horizon=3, dense=4
    )
    batch = next(task.train(seed=0, batch=5))
    steps = (batch.targets[..., 0] - batch.inputs[batch.scored]).reshape(5, 4, 3)
    one = batch.inputs[0, 1, 0] - batch.inputs[0, 0, 0]
    torch.testing.assert_close(steps, (one * torch.arange(1, 4)).expand(5, 4, 3))
    assert batch.scored.sum(1).tolist() == [4] * 5
    assert task.reading()["mean"] == [34.5]


def test_training_never_sees_what_is_left_out() -> None:
    count = 8
    values = np.arange(30 * count) % (30 * count)  # every event is an item of its own
    events = Events(name="own", values=values, offsets=np.arange(31) * count, labels=tuple(range(len(values))))
    task = NextItem.of(events, length=5, negatives=9)
    batches = task.train(seed=0, batch=30)
    seen = {
        int(token)
        for _ in range(5)
        for batch in [next(batches)]
        for token in torch.cat([batch.inputs.flatten(), batch.targets])
    }
    valid, test = (torch.cat([batch.targets for batch in task.split(name)]).tolist() for name in ("valid", "test"))
    assert [value % count for value in valid + test] == [6] * 30 + [7] * 30
    assert not seen & set(valid + test)
    assert all(6 in (batch.inputs % count)[batch.scored].tolist() for batch in task.split("test")), (
        "validation is read at the test"
    )
    for batch in task.split("test"):
        rivals = task._rivals(batch)
        assert rivals.shape == (len(batch.targets), 9)
        assert not bool((rivals == batch.targets[:, None]).any())
        assert not bool(((rivals // count == (batch.targets // count)[:, None]) & (rivals % count < 6)).any())


class DropsTheLastBatch(Text):
    def split(self, name: Literal["valid", "test"], *, batch: int = 32) -> Iterator[Batch]:
        return (each for each in super().split(name, batch=batch) if len(each.inputs) == batch)


class FlatteringChance(Text):
    def chance(self) -> Mapping[str, float]:
        return {**super().chance(), "accuracy": 0.1}


class OtherBatchesEachTime(Text):
    def train(self, *, seed: int, batch: int) -> Iterator[Batch]:
        return super().train(seed=int(torch.randint(10**6, ())), batch=batch)


class WrongWay(Text):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return -super().loss(outputs, batch)


class NoBetterThanABigram(Text):
    def oracle(self, batch: Batch) -> Tensor:
        return self.floors()["2-gram"](batch)


class BagOfItems(NextItem):
    def split(self, name: Literal["valid", "test"], *, batch: int = 32) -> Iterator[Batch]:
        for each in super().split(name, batch=batch):  # items in random order from the start
            yield replace(each, inputs=torch.randint(31, each.inputs.shape))


@pytest.mark.parametrize(
    ("fault", "law"),
    [
        (DropsTheLastBatch, "every_sample_counts"),
        (FlatteringChance, "chance_is_as_stated"),
        (OtherBatchesEachTime, "same_seed_same_batches"),
        (WrongWay, "loss_teaches"),
        (NoBetterThanABigram, "truth_scores_best"),
        (BagOfItems, "shuffled_time_hurts"),
    ],
)
def test_the_laws_bite(fault: type[Any], law: str) -> None:
    task = fault.examples()[0]
    with pytest.raises(AssertionError):
        LAW[law].run(task)
