"""Floors on real data: every number here was measured apart from this code, or is published."""

from collections.abc import Sequence

import numpy as np
import pytest

from attime.errors import MissingData
from attime.streams.public import public_files
from attime.tasks import Chorales, Forecast, NextEvent, NextItem, Text, Trajectories
from attime.tasks.contract import Task
from attime.tasks.trajectories import SCENES


def needs(*names: str) -> None:
    try:
        for name in names:
            public_files(name)
    except MissingData as error:
        pytest.skip(str(error))


def check(task: Task, floor: str, expected: Sequence[float], *, within: float = 1e-3) -> None:
    scores = list(task.score(task.floors()[floor], batch=32).values())[: len(expected)]
    np.testing.assert_allclose(scores, expected, rtol=0, atol=within, err_msg=f"{task.protocol} {floor}")


ETT = {  # last value, the same time a day ago, the day profile, window mean, train mean
    96: ((1.294, 0.713), (0.512, 0.433), (0.406, 0.396), (0.701, 0.558), (1.110, 0.796)),
    192: ((1.325, 0.733), (0.581, 0.469), (0.460, 0.426), (0.718, 0.571), (1.111, 0.798)),
    336: ((1.330, 0.746), (0.650, 0.501), (0.501, 0.443), (0.723, 0.581), (1.107, 0.800)),
    720: ((1.335, 0.755), (0.655, 0.514), (0.490, 0.454), (0.712, 0.595), (1.097, 0.802)),
}


@pytest.mark.parametrize("horizon", ETT)
def test_ett(horizon: int) -> None:
    needs("ett-h1")
    task = Forecast.public("ett-h1", lookback=96, horizon=horizon)
    assert task.protocol == f"ett-h1/96-{horizon}"
    floors = ("last value", "same time a day ago", "day profile", "window mean", "train mean")
    for floor, expected in zip(floors, ETT[horizon], strict=True):
        check(task, floor, expected)
    np.testing.assert_allclose(list(task.chance().values()), ETT[horizon][-1], atol=1e-3)


def test_ett_has_every_window_whatever_the_batch() -> None:
    needs("ett-h1")
    task = Forecast.public("ett-h1", lookback=96, horizon=96)
    for split in ("valid", "test"):
        assert sum(len(batch.inputs) for batch in task.split(split, batch=32)) == 2785
    assert task.borders == (8640, 11520, 14400)


@pytest.mark.parametrize(
    ("name", "lookback", "horizon", "last"),
    [
        ("exchange-rate", 96, 96, (0.081, 0.196)),
        ("exchange-rate", 96, 192, (0.167, 0.289)),
        ("exchange-rate", 96, 336, (0.306, 0.398)),
        ("exchange-rate", 96, 720, (0.810, 0.676)),
        ("illness", 36, 24, (6.213, 1.622)),  # 6.587 / 1.701 where the last batch is dropped
        ("illness", 36, 60, (6.885, 1.788)),
    ],
)
def test_last_value(name: str, lookback: int, horizon: int, last: tuple[float, float]) -> None:
    needs(name)
    check(Forecast.public(name, lookback=lookback, horizon=horizon), "last value", last)


@pytest.mark.parametrize(
    ("name", "popularity", "transitions", "within"),
    [
        ("ml-1m", (0.039, 0.019), (0.192, 0.112), 1e-3),
        ("ml-100k", (0.086, 0.044), (0.145, 0.077), 1.5e-3),  # one of 943 users is 1.06e-3
        ("beauty", (0.012, 0.006), (0.0670, 0.0440), 1e-3),
        ("toys", (0.009, 0.005), (0.0709, 0.0479), 1e-3),
        ("lastfm", (0.039, 0.018), (0.0422, 0.0235), 1e-3),
    ],
)
def test_next_item(name: str, popularity: tuple[float, float], transitions: tuple[float, float], within: float) -> None:
    needs(name)
    task = NextItem.public(name)
    check(task, "popularity", popularity, within=within)
    check(task, "item transitions", transitions, within=within)


def test_next_item_among_a_hundred() -> None:
    needs("ml-1m")
    task = NextItem.public("ml-1m")
    assert len(task.events.labels) == 3416
    check(task, "popularity", (0.039, 0.019, 0.436, 0.240), within=2e-3)  # SASRec's table: 0.4329 / 0.2377
    check(task, "item transitions", (0.192, 0.112, 0.630, 0.438), within=5e-3)  # other draws: 0.006 is one sigma


@pytest.mark.parametrize(
    ("name", "majority", "first", "second"),
    [("stackoverflow", 0.429, 0.445, 0.449), ("mimic2", 0.401, 0.826, 0.826)],
)
def test_next_event(name: str, majority: float, first: float, second: float) -> None:
    needs(name)
    task = NextEvent.public(name)
    for floor, expected in zip(task.floors(), (majority, first, second), strict=True):
        check(task, floor, (expected,))


def test_tiny_shakespeare() -> None:
    needs("tinyshakespeare")
    task = Text.public("tinyshakespeare")
    assert sum(len(batch.targets) for batch in task.split("test")) == 111_540
    for order, nats in enumerate((3.347, 2.486, 2.049, 1.774, 1.669, 1.698), 1):
        check(task, f"{order}-gram", (nats,))


def test_chorales() -> None:
    needs("jsb")
    task = Chorales.public()
    floors = task.floors()
    found = {floor: [task.score(floors[floor], split)["nats"] for split in ("valid", "test")] for floor in floors}
    expected = [(2.61, 2.64), (0.934, 0.983), (0.704, 0.736)]
    np.testing.assert_allclose(list(found.values()), expected, atol=1.5e-3)
    assert sum(len(batch.targets) for batch in task.split("test")) == 75_600


def test_trajectories() -> None:
    needs("eth-ucy")
    scores: dict[str, list[list[float]]] = {}
    for scene in SCENES:
        task = Trajectories.public(scene)
        for name, floor in task.floors().items():
            scores.setdefault(name, []).append(list(task.score(floor, batch=1024).values()))
    means = {name: np.mean(found, axis=0).tolist() for name, found in scores.items()}
    expected = {
        "standing still": (1.73, 3.11),
        "constant velocity": (0.534, 1.148),
        "mean velocity": (0.599, 1.226),
        "straight line": (0.648, 1.273),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(means[name], values, atol=5e-3 if name == "standing still" else 1e-3)
    published = [(1.075, 2.28), (0.32, 0.614), (0.524, 1.165), (0.427, 0.952), (0.324, 0.724)]
    np.testing.assert_allclose(scores["constant velocity"], published, atol=3e-3)
