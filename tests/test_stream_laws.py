"""Every container obeys the laws of streams, so does what readers make of files, and the laws bite."""

# pyright: reportGeneralTypeIssues=false
# The faulty streams below inherit from final ones on purpose.

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from attime.laws import Law, cases, pairs
from attime.laws.streams import LAWS
from attime.laws.world import WORLD_LAWS
from attime.part import Part
from attime.streams import (
    Corpus,
    Events,
    Pieces,
    Series,
    Sounds,
    Stream,
    Tracks,
    read_events,
    read_pieces,
    read_series,
    read_sounds,
    read_text,
    read_tracks,
)

LAW = {law.name: law for law in LAWS}


@pytest.mark.parametrize(("part", "law"), cases("streams"))
def test_law(part: Part, law: Law) -> None:
    law.run(part)


def _read(folder: Path) -> list[Stream]:
    """One stream of each reader, from files written here."""
    series, events, text, tracks = (folder / name for name in ("s.csv", "e.csv", "t.txt", "k.txt"))
    pieces, sounds = folder / "p.json", folder / "w.npz"
    series.write_text("date,a\n2024-01-01,1\n2024-01-02,2\n2024-01-03,4\n")
    events.write_text("user,item,time\n2,a,5\n1,b,9\n2,b,3\n1,a,1\n")
    text.write_text(" ".join(map(str, range(400))))
    tracks.write_text("0 1 0.0 0.0\n10 1 1.0 0.0\n0 2 5.0 5.0\n")
    pieces.write_text(json.dumps({"train": [[[60, 48], [62, -1]]], "valid": [[[64, 50]]], "test": [[[65, 53]]]}))
    np.savez(
        sounds,
        samples=np.arange(10, dtype=np.int16),
        offsets=[0, 4, 10],
        rate=8000,
        digit=[1, 2],
        speaker=[0, 0],
        take=[0, 1],
        speaker_names=["a"],
    )
    read = [read_series(series), read_events(events), read_text(text), read_pieces(pieces), read_sounds(sounds)]
    return [*read, read_tracks("k", {"k": tracks})]


def test_what_readers_make_of_files_obeys_the_laws(tmp_path: Path) -> None:
    streams = _read(tmp_path)
    assert {type(stream) for stream in streams} == {Series, Events, Corpus, Pieces, Sounds, Tracks}
    for stream, law in pairs(streams, LAWS):
        law.run(stream)


def _with(kind: Any, **changes: Any) -> Stream:
    return replace(kind.examples()[0], **changes)


class Restless(Series):
    calls: ClassVar[list[int]] = []

    @classmethod
    def examples(cls):
        cls.calls.append(0)
        return [cls(name="r", values=np.full((3, 1), float(len(cls.calls))), names=("a",))]


class Shared(Series):
    kept: ClassVar[Any] = np.ones((3, 1))

    @classmethod
    def examples(cls):
        return [cls(name="s", values=cls.kept, names=("a",))]


class Homebound(Series):
    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        return (_series, (self.values,))


class Silent(Series):
    @property
    def about(self) -> str:
        return f"{self.name}: a series"


def _series(values: Any) -> Series:
    return Homebound(name="came back", values=values, names=("a",))


ONE: dict[str, Any] = dict(name="x", values=np.ones((3, 1)), names=("a",))
NUMBERS = np.arange(100, dtype=np.uint8)
FAULTS: list[tuple[Callable[[], Stream], str]] = [
    (lambda: _with(Series, values=np.ones((48, 2), np.float32)), "arrays_are_as_stated"),
    (lambda: _with(Sounds, samples=np.zeros(1000)), "arrays_are_as_stated"),
    (lambda: Restless.examples()[0], "same_call_same_data"),
    (lambda: Shared.examples()[0], "same_call_same_data"),
    (lambda: Homebound(**ONE), "pickles"),
    (lambda: Silent(**ONE), "about_says_what_it_holds"),
    (lambda: _with(Pieces, offsets=np.array([0, 4, 6, 7])), "offsets_cover_everything_once"),
    (lambda: _with(Sounds, offsets=np.array([0, 0, 1000])), "offsets_cover_everything_once"),
    (lambda: _with(Events, when_s=np.arange(7.0)[::-1]), "time_never_decreases"),
    (lambda: _with(Series, when_s=np.arange(47.0)), "time_never_decreases"),
    (lambda: _with(Pieces, part=np.array([0, 1, 3], np.int8)), "every_sequence_has_one_part"),
    (lambda: _with(Events, part=np.array([0, 1], np.int8)), "every_sequence_has_one_part"),
    (
        lambda: Corpus(name="c", train=NUMBERS[:80], valid=NUMBERS[70:90], test=NUMBERS[90:]),
        "held_out_is_not_trained_on",
    ),
    (lambda: Corpus(name="c", train=NUMBERS[:80], valid=NUMBERS[80:], test=NUMBERS[90:]), "held_out_is_not_trained_on"),
    (lambda: _with(Tracks, walker=np.zeros(24, np.int64)), "nobody_is_in_two_places"),
]


@pytest.mark.parametrize(("make", "law"), FAULTS, ids=lambda each: each if isinstance(each, str) else "")
def test_the_fault_is_caught(make: Callable[[], Stream], law: str) -> None:
    with pytest.raises(AssertionError):
        LAW[law].run(make())


def test_every_law_has_a_fault() -> None:
    assert {law for _, law in FAULTS} == set(LAW) - {law.name for law in WORLD_LAWS}  # theirs are in test_world.py
