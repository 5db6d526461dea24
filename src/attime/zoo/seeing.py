"""What every patch shows and what every thing does: the watcher is told while it trains, and need not find out from answers alone.

An answer is a few words about a whole clip; a small model that learns from answers alone sits at chance for thousands of
clips wherever a question is about one of two things. What patches show helps it to see. What the things do whose names are in
a question helps it to look up a thing by its name, but only once it can tell whether there is such a thing at all.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attime.streams.world.ask import ACTS
from attime.streams.world.scene import COLOURS, SHAPES, WAYS, Event, Shot

__all__ = ["FACTS", "LABELS", "facts", "labelled"]

HOPS = 6  # none, one, ... five or more
LABELS: dict[str, int] = {
    "colour": len(COLOURS),
    "shape": len(SHAPES),
    "doing": 1 + len(WAYS) + len(ACTS),
    "hops": HOPS,
    "first": 16,
    "last": 16,
}
"""What is said of a patch, and how many answers there are."""
FACTS: dict[str, int] = {
    "way": len(WAYS) + 1,
    "hops": HOPS,
    "first": 16,
    "move begins": 16,
    "move ends": 16,
    "hop begins": 16,
    "other begins": 16,
    "other ends": 16,
    "other": len(ACTS) + 1,
    "becomes": len(COLOURS) + 1,
    "place": 4,
}
"""What is said of a thing whose name is in a question, and how many answers there are."""
NOTHING = -1


def labelled(shots: Sequence[Shot], *, slices: int, slice_s: float, cells: int) -> NDArray[np.int64]:
    """(shots, slices, cells, cells, len(LABELS)): what is said of the patch in which a thing's centre is, -1 elsewhere.

    A slice of time lasts `slice_s`. `first` and `last` are the slices, from 1, in which the thing's first and its latest act began;
    0 if it has done nothing yet.
    """
    said = np.full((len(shots), slices, cells, cells, len(LABELS)), NOTHING)
    starts = np.arange(slices) * slice_s
    for shot, board in zip(shots, said, strict=True):
        early, late = (shot.at(shot.start_s + starts + part * slice_s) for part in (0.0, 0.5))
        centre = (early.place - early.camera[:, None] + late.place - late.camera[:, None]) / 2
        column, row = np.clip((centre * cells).astype(int), 0, cells - 1).transpose(2, 0, 1)
        colours = np.array(list(COLOURS.values()))
        for who, thing in enumerate(shot.things):
            there = np.flatnonzero(np.maximum(early.alpha, late.alpha)[:, who] > 0.3)
            events = [event for event in shot.of(who) if event.kind in ACTS]
            colour = np.abs(late.colour[:, who, None] - colours).sum(-1).argmin(-1)
            for place in there.tolist():
                begin = shot.start_s + starts[place]
                before = [event for event in events if event.start_s < begin + slice_s / 2]
                hops = sum(event.kind == "hop" for event in before)
                first, last = (
                    round((before[end].start_s - shot.start_s) / slice_s) + 1 if before else 0 for end in (0, -1)
                )
                board[place, row[place, who], column[place, who]] = (
                    colour[place],
                    SHAPES.index(thing.shape),
                    _doing([event for event in before if event.stop_s > begin + slice_s / 2]),
                    min(hops, HOPS - 1),
                    min(first, LABELS["first"] - 1),
                    min(last, LABELS["last"] - 1),
                )
    return said


def facts(shot: Shot, *, slice_s: float) -> NDArray[np.int64]:
    """(things, len(FACTS)): what each thing does in the whole shot; beginnings and ends are slices, 0 for never."""
    last = shot.at([shot.stop_s])
    rows = []
    for who in range(len(shot.things)):

        def when(events: Sequence[Event], end: bool = False) -> int:
            if len(events) != 1:
                return 0
            return min(15, round(((events[0].stop_s if end else events[0].start_s) - shot.start_s) / slice_s) + 1)

        moves, hops = shot.of(who, "move"), shot.of(who, "hop")
        every = shot.of(who, *ACTS)
        others = [event for event in every if event.kind not in ("move", "hop")]
        changed = shot.of(who, "recolour")
        x, y = (last.place[0, who] - last.camera[0]).tolist()
        rows.append(
            (
                1 + list(WAYS).index(moves[0].way) if len(moves) == 1 else 0,
                min(len(hops), HOPS - 1),
                when(every[:1]),
                when(moves),
                when(moves, end=True),
                when(hops),
                when(others),
                when(others, end=True),
                1 + ACTS.index(others[0].kind) if len(others) == 1 else 0,
                1 + list(COLOURS).index(changed[0].way) if len(changed) == 1 else 0,
                2 * (y > 0.5) + (x > 0.5),
            )
        )
    return np.array(rows)


def _doing(events: Sequence[Event]) -> int:
    """0 for nothing, then the ways of a move, then the other kinds."""
    if not events:
        return 0
    event = events[-1]
    return 1 + (list(WAYS).index(event.way) if event.kind == "move" else len(WAYS) + ACTS.index(event.kind))
