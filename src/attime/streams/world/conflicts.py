"""Clips that show the same things and differ in time alone: a shot played backwards, one that is faster, two clips joined.

A shot and its reversed twin show the same picture in the middle; so do a shot and its faster twin.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from attime.errors import AttimeError
from attime.streams.world.scene import Event, Shot, Thing, heading

__all__ = ["beside", "faster", "in_turn", "reversed_shot"]

Frames = NDArray[np.uint8]

BACK = {
    **{"left": "right", "right": "left", "up": "down", "down": "up"},
    **{"clockwise": "anticlockwise", "anticlockwise": "clockwise"},
}
OPPOSITE = {"appear": "vanish", "vanish": "appear", "grow": "shrink", "shrink": "grow"}


def reversed_shot(shot: Shot) -> Shot:
    """The shot played backwards: what was seen t seconds after its start is seen t seconds before its end.

    Its events are those that one sees: who grew shrinks, who became blue is blue and becomes what it was.
    AttimeError for a shot that is cut off in the middle of an event, or one of whose things changes its size and meets a
    wall as well.
    """
    if any(event.stop_s > shot.stop_s for event in shot.happenings):
        raise AttimeError(
            f"reversed_shot needs a shot whose events are over at its end, {shot.stop_s:g} s; one goes on."
        )
    last = shot.at([shot.stop_s])
    things = []
    for who, thing in enumerate(shot.things):
        colours = [event.way for event in shot.of(who, "recolour")]
        place, radius, angle = last.place[0, who].tolist(), float(last.radius[0, who]), float(last.angle[0, who])
        colour = colours[-1] if colours else thing.colour
        things.append(replace(thing, place=(place[0], place[1]), radius=radius, angle=angle, colour=colour))
    camera = last.camera[0].tolist()
    twin = replace(
        shot,
        things=tuple(things),
        events=tuple(sorted((_mirrored(shot, event) for event in shot.happenings), key=lambda event: event.start_s)),
        camera=(camera[0], camera[1]),
    )
    if not _is_mirrored(shot, twin):
        raise AttimeError("reversed_shot needs things that do not both change their size and meet a wall; one does.")
    return twin


def faster(shot: Shot, factor: float, *, about_s: float | None = None) -> Shot:
    """The same happenings `factor` times as fast: what was seen t seconds after `about_s` is seen t / `factor` after it.

    `about_s` is the middle of the shot if it is not given. Below 1 it is slower; AttimeError if that leaves the shot.
    """
    about = (shot.start_s + shot.stop_s) / 2 if about_s is None else about_s
    if not 0 < factor < float("inf"):
        raise AttimeError(f"faster needs a factor above 0; got {factor}.")

    def moved(when: float) -> float:
        return about + (when - about) / factor

    events = tuple(
        replace(event, start_s=moved(event.start_s), stop_s=moved(event.stop_s), speed=factor * event.speed)
        for event in shot.events
    )
    if any(event.start_s < shot.start_s or event.stop_s > shot.stop_s for event in events):
        raise AttimeError(f"faster needs a shot with room for what takes {1 / factor:.3g} times as long; it has none.")
    return replace(shot, events=events)


def beside(left: Frames, right: Frames) -> Frames:
    """Two clips of one size at the same time, side by side: (time, height, 2 width, 3)."""
    return _joined(left, right, axis=2, who="beside")


def in_turn(first: Frames, second: Frames) -> Frames:
    """Two clips of one size, one after the other: (2 time, height, width, 3)."""
    return _joined(first, second, axis=0, who="in_turn")


def _joined(one: Frames, other: Frames, *, axis: int, who: str) -> Frames:
    if one.shape != other.shape or one.ndim != 4:
        raise AttimeError(
            f"{who} needs two clips (time, height, width, 3) of one size; got {one.shape}, {other.shape}."
        )
    return np.concatenate([one, other], axis=axis)


def _mirrored(shot: Shot, event: Event) -> Event:
    """What one sees of the event when time runs backwards."""
    start, stop = (shot.start_s + (shot.stop_s - when) for when in (event.stop_s, event.start_s))
    way = BACK.get(event.way, event.way)
    if event.kind == "move":
        way = BACK[heading(shot, event)]
    elif event.kind == "recolour":
        way = _colour_before(shot.things[event.who], shot.of(event.who, "recolour"), event)
    elif (
        event.kind == "flash"
    ):  # there from its start until before its end; backwards from after its end until its start
        start, stop = (float(np.nextafter(when, np.inf)) for when in (start, stop))
    return replace(event, kind=OPPOSITE.get(event.kind, event.kind), start_s=start, stop_s=stop, way=way)


def _colour_before(thing: Thing, events: Sequence[Event], event: Event) -> str:
    place = events.index(event)
    return events[place - 1].way if place else thing.colour


def _is_mirrored(shot: Shot, twin: Shot) -> bool:
    """Whether everything is where it should be, at moments inside of all stretches in which nothing begins or ends."""
    ends = {time for event in shot.happenings for time in (event.start_s, event.stop_s)}
    times = np.array(sorted({shot.start_s, shot.stop_s, *ends}))
    inside = (times[:-1, None] + np.diff(times)[:, None] * np.array([0.001, 0.5, 0.999])).ravel()
    ours, theirs = shot.at(inside), twin.at(shot.start_s + (shot.stop_s - inside))
    names = ("place", "radius", "angle", "colour", "alpha", "camera")
    return all(np.allclose(getattr(ours, name), getattr(theirs, name), rtol=0, atol=1e-6) for name in names)
