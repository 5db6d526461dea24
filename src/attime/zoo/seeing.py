"""What every patch of a clip shows: the watcher is told while it trains, so that it need not find out from answers alone.

A question's answer is a few words for a whole clip. What a patch shows (which colour, which shape, what it does now, how often
that has hopped and when it first did anything) is said for every patch, and a small model learns from it much sooner.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attime.streams.world.ask import ACTS
from attime.streams.world.scene import COLOURS, SHAPES, WAYS, Event, Shot

__all__ = ["LABELS", "labelled"]

HOPS = 6  # none, one, ... five or more
LABELS: dict[str, int] = {
    "colour": len(COLOURS),
    "shape": len(SHAPES),
    "doing": 1 + len(WAYS) + len(ACTS),
    "hops": HOPS,
    "since": 16,
}
"""What is said of a patch, and how many answers there are."""
NOTHING = -1


def labelled(shots: Sequence[Shot], *, slices: int, slice_s: float, cells: int) -> NDArray[np.int64]:
    """(shots, slices, cells, cells, len(LABELS)): what is said of the patch in which a thing's centre is, -1 elsewhere.

    A slice of time lasts `slice_s` and starts with the frame before it; `since` is the slice in which its thing first acted.
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
                first = round((before[0].start_s - shot.start_s) / slice_s) + 1 if before else 0
                board[place, row[place, who], column[place, who]] = (
                    colour[place],
                    SHAPES.index(thing.shape),
                    _doing([event for event in before if event.stop_s > begin + slice_s / 2]),
                    min(hops, HOPS - 1),
                    min(first, LABELS["since"] - 1),
                )
    return said


def _doing(events: Sequence[Event]) -> int:
    """0 for nothing, then the ways of a move, then the other kinds."""
    if not events:
        return 0
    event = events[-1]
    return 1 + (list(WAYS).index(event.way) if event.kind == "move" else len(WAYS) + ACTS.index(event.kind))
