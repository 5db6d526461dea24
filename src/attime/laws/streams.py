"""Laws of the streams room: time runs forward, nothing is lost between sequences, and what is held out is held out."""

import pickle
import re
import typing
from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attime.laws.contract import Law
from attime.laws.world import WORLD_LAWS
from attime.streams.contract import TEST, TRAIN, VALID, Stream

__all__ = ["LAWS"]


def arrays_are_as_stated(stream: Stream) -> None:
    """Arrays have the dtypes that their fields state, are not empty and hold finite numbers."""
    hints = typing.get_type_hints(type(stream))
    for name, array in _arrays(stream):
        stated = [kind for kind in _scalars(hints[name]) if np.issubdtype(array.dtype, kind)]
        assert stated, f"{name} holds {array.dtype}; its field states {hints[name]}"
        assert array.dtype.isnative, f"{name} is not in this machine's order of bytes"
        assert array.size, f"{name} is empty"
        if np.issubdtype(array.dtype, np.floating):
            assert np.isfinite(array).all(), f"{name} holds numbers that are not finite"


def same_call_same_data(stream: Stream) -> None:
    """Building it again gives the same data, in memory of its own: who writes into one changes no other."""
    first, second = ([each for each in type(stream).examples() if isinstance(each, Stream)] for _ in range(2))
    assert len(first) == len(second) > 0, "examples() gives another number of streams each time"
    for ours, theirs in zip(first, second, strict=True):
        _same(ours, theirs, "built twice")
        for (name, one), (_, other) in zip(_arrays(ours), _arrays(theirs), strict=True):
            apart = not np.shares_memory(one, other) or not (one.flags.writeable or other.flags.writeable)
            assert apart, f"{name} of two streams is the same memory"


def pickles(stream: Stream) -> None:
    """It travels to another process and comes back equal."""
    _same(pickle.loads(pickle.dumps(stream)), stream, "pickled")


def about_says_what_it_holds(stream: Stream) -> None:
    """`about` is one line: the name, a colon, and how many sequences, or without these how many entries, there are."""
    assert stream.about.startswith(f"{stream.name}: "), f"about does not begin with the name: {stream.about}"
    assert replace(stream, name="another").about == stream.about.replace(stream.name, "another", 1), "another name"
    assert "\n" not in stream.about, "about has more than one line"
    count = len(getattr(stream, "offsets", ())) - 1 if stream.traits.sequences else getattr(stream, "count", None)
    count = len(_first(stream)) if count is None else count
    numbers = [int(number.replace(",", "")) for number in re.findall(r"\b\d[\d,]*\b", stream.about.split(": ", 1)[1])]
    assert count in numbers, f"about does not say that there are {count}: {stream.about}"


def offsets_cover_everything_once(stream: Any) -> None:
    """Offsets rise from 0 to the number of entries, so that every entry is in one sequence, and no sequence is empty."""
    seen = np.zeros(len(_first(stream)), np.int64)
    assert stream.offsets[0] == 0, f"offsets begin with {stream.offsets[0]}"
    for start, stop in pairwise(stream.offsets):
        assert start < stop, f"a sequence goes from {start} to {stop}"
        seen[start:stop] += 1
    assert stream.offsets[-1] == len(seen), f"offsets end at {stream.offsets[-1]} of {len(seen)} entries"
    assert (seen == 1).all(), "an entry is in no sequence or in more than one"


def time_never_decreases(stream: Any) -> None:
    """Every entry has a time, which is never before the one before it in its sequence."""
    if stream.when_s is None:
        return
    count = len(_first(stream))
    assert stream.when_s.shape == (count,), f"{count} entries have times of sizes {stream.when_s.shape}"
    bounds = stream.offsets if stream.traits.sequences else [0, count]
    for number, (start, stop) in enumerate(pairwise(bounds)):
        assert (np.diff(stream.when_s[start:stop]) >= 0).all(), f"time runs backwards in sequence {number}"


def every_sequence_has_one_part(stream: Any) -> None:
    """`part` says TRAIN, VALID or TEST of every sequence, and some are for training."""
    if stream.part is None:
        return
    count = len(stream.offsets) - 1
    assert stream.part.shape == (count,), f"{count} sequences have parts of sizes {stream.part.shape}"
    assert set(stream.part.tolist()) <= {TRAIN, VALID, TEST}, f"parts are {sorted(set(stream.part.tolist()))}"
    assert (stream.part == TRAIN).any(), "no sequence is for training"


def held_out_is_not_trained_on(stream: Any) -> None:
    """No quarter of a held-out part stands in the training part; the two held-out parts are the same or differ likewise."""
    parts = {name: getattr(stream, name) for name in ("train", "valid", "test")}
    pairs = [("valid", "train"), ("test", "train")]
    if not np.array_equal(parts["valid"], parts["test"]):
        pairs += [("test", "valid"), ("valid", "test")]
    for held, other in pairs:
        whole = parts[other].tobytes()
        for number, piece in enumerate(np.array_split(parts[held], 4), 1):
            assert piece.tobytes() not in whole, f"quarter {number} of {held} stands in {other}"


def nobody_is_in_two_places(stream: Any) -> None:
    """All columns are equally long, every row names a recording, and a thing is once in a frame."""
    columns = (stream.recording, stream.frame, stream.walker)
    assert {len(column) for column in columns} == {len(stream.place)}, "columns differ in length"
    assert set(stream.recording.tolist()) == set(range(len(stream.recordings))), "rows and recordings do not agree"
    rows = np.stack(columns, axis=1)
    assert len(np.unique(rows, axis=0)) == len(rows), "something is in two places in one frame"


LAWS = (
    Law(arrays_are_as_stated),
    Law(same_call_same_data),
    Law(pickles),
    Law(about_says_what_it_holds),
    Law(offsets_cover_everything_once, needs=("sequences",)),
    Law(time_never_decreases, needs=("clock",)),
    Law(every_sequence_has_one_part, needs=("split",)),
    Law(held_out_is_not_trained_on, needs=("held_out",)),
    Law(nobody_is_in_two_places, needs=("moving",)),
    *WORLD_LAWS,
)


def _arrays(stream: Stream) -> Iterator[tuple[str, NDArray[Any]]]:
    for each in fields(stream):
        value = getattr(stream, each.name)
        if isinstance(value, np.ndarray):
            yield each.name, value


def _first(stream: Stream) -> NDArray[Any]:
    return next(_arrays(stream))[1]


def _scalars(hint: Any) -> list[type]:
    """The numpy numbers that a hint such as `NDArray[np.int64] | None` names."""
    if isinstance(hint, type) and issubclass(hint, np.generic):
        return [hint]
    return [kind for inner in typing.get_args(hint) for kind in _scalars(inner)]


def _same(ours: Stream, theirs: Stream, how: str) -> None:
    assert type(ours) is type(theirs), f"{how}, it is a {type(ours).__name__}"
    for each in fields(ours):
        one, other = getattr(ours, each.name), getattr(theirs, each.name)
        if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
            assert one.dtype == other.dtype, f"{how}, {each.name} is of {one.dtype} and of {other.dtype}"
            assert np.array_equal(one, other), f"{how}, {each.name} differs"
        else:
            assert type(one) is type(other), f"{how}, {each.name} is another kind of thing"
            assert one == other, f"{how}, {each.name} differs"
