"""A scene: things, what happens to them and when, and from that where everything is at any moment.

The stage is one wide and one high; x grows to the right and y downwards, and the camera sees all of it until it pans.
Times are seconds from the start of the stream.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["CAMERA", "COLOURS", "KINDS", "SHAPES", "WAYS", "Event", "Shot", "States", "Thing", "heading", "stack"]

CAMERA = -1
"""The `who` of an event that happens to the camera."""
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.90, 0.12, 0.12),
    "green": (0.10, 0.75, 0.20),
    "blue": (0.15, 0.35, 0.95),
    "yellow": (0.95, 0.88, 0.10),
    "purple": (0.62, 0.15, 0.80),
    "orange": (0.98, 0.55, 0.05),
    "cyan": (0.10, 0.85, 0.90),
    "white": (1.00, 1.00, 1.00),
}
"""Red, green and blue from 0 to 1."""
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
WAYS: dict[str, tuple[float, float]] = {
    "left": (-1.0, 0.0),
    "right": (1.0, 0.0),
    "up": (0.0, -1.0),
    "down": (0.0, 1.0),
}
"""Directions on the stage (x, y)."""
KINDS = ("move", "turn", "hop", "appear", "vanish", "recolour", "grow", "shrink", "flash", "pan")
"""What can happen. `bounce` follows from a move that meets a wall, `cut` from one shot ending and the next beginning."""
HOP, SIZE = 0.16, 1.6  # how high a hop goes; by how much a thing grows


@dataclass(frozen=True, kw_only=True)
class Thing:
    """A coloured shape. Later things of a shot are in front of earlier ones."""

    colour: str
    shape: str
    place: tuple[float, float]
    """Its centre at the start of the shot."""
    radius: float = 0.1
    angle: float = 0.0
    """How far it is turned at the start of the shot, in turns, clockwise."""

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happens to one thing (or to the camera) from `start_s` to `stop_s`."""

    kind: str
    who: int
    start_s: float
    stop_s: float
    way: str = ""
    """Of a move or pan: left, right, up, down; of a turn: clockwise, anticlockwise; of a recolour: the new colour."""
    speed: float = 0.0
    """Of a move or pan: stage widths per second; of a turn: turns per second."""

    @property
    def seconds(self) -> float:
        """How long it takes."""
        return self.stop_s - self.start_s


@dataclass(frozen=True, kw_only=True)
class States:
    """Where everything is, one row per moment."""

    place: NDArray[np.float64]
    """(time, things, 2)"""
    radius: NDArray[np.float64]
    """(time, things)"""
    angle: NDArray[np.float64]
    """(time, things), in turns, clockwise."""
    colour: NDArray[np.float64]
    """(time, things, 3)"""
    alpha: NDArray[np.float64]
    """(time, things): 0 is not there, 1 is wholly there."""
    camera: NDArray[np.float64]
    """(time, 2): what the camera has panned; it is subtracted from every place."""


@dataclass(frozen=True, kw_only=True)
class Shot:
    """What one take of the camera holds, complete: everything else (pixels, sound, words, questions) follows from it."""

    start_s: float
    stop_s: float
    things: tuple[Thing, ...]
    events: tuple[Event, ...]
    """In order of their starts. Events of one kind and one thing do not overlap. Some may lie behind the end of a shot cut short."""
    clutter: tuple[Thing, ...] = field(default=(), repr=False)
    """Things behind all others that never do anything and that nobody speaks of."""
    backdrop: str = "plain"
    """plain, checker, stripes or dots."""
    shade: float = 0.15
    """Brightness of the backdrop."""
    camera: tuple[float, float] = (0.0, 0.0)
    """What the camera has panned before the shot starts."""

    @property
    def seconds(self) -> float:
        """How long the shot is."""
        return self.stop_s - self.start_s

    def name(self, who: int) -> str:
        """What people call the thing `who`."""
        return "camera" if who == CAMERA else self.things[who].name

    @property
    def happenings(self) -> list[Event]:
        """The events that begin before the shot ends."""
        return [event for event in self.events if event.start_s < self.stop_s]

    def of(self, who: int, *kinds: str) -> list[Event]:
        """What happens to `who`, in order of time; all kinds or only the named ones."""
        return [event for event in self.happenings if event.who == who and (not kinds or event.kind in kinds)]

    def at(self, when_s: ArrayLike) -> States:
        """The states of `things` at these moments (time,)."""
        when = np.asarray(when_s, np.float64)
        count = len(self.things)
        place = np.empty((len(when), count, 2))
        radius, angle, alpha = (np.empty((len(when), count)) for _ in range(3))
        colour = np.empty((len(when), count, 3))

        def own(who: int, *kinds: str) -> list[Event]:
            return [event for event in self.events if event.who == who and event.kind in kinds]

        for who, thing in enumerate(self.things):
            place[:, who] = _place(thing, own(who, "move", "hop"), when)
            radius[:, who] = _radius(thing, own(who, "grow", "shrink"), when)
            angle[:, who] = _angle(thing, own(who, "turn"), when)
            alpha[:, who] = _alpha(own(who, "appear", "vanish", "flash"), when)
            colour[:, who] = _colour(thing, own(who, "recolour"), when)
        camera = np.tile(np.asarray(self.camera, np.float64), (len(when), 1))
        for event in own(CAMERA, "pan"):
            camera += np.outer(_done(event, when) * event.seconds * event.speed, WAYS[event.way])
        return States(place=place, radius=radius, angle=angle, colour=colour, alpha=alpha, camera=camera)

    def bounces(self, event: Event) -> list[float]:
        """The moments at which a move meets a wall and turns back."""
        thing, axis = self.things[event.who], 0 if WAYS[event.way][0] else 1
        before = _place(thing, self.of(event.who, "move"), np.array([event.start_s]))[0, axis]
        low, high = thing.radius, 1 - thing.radius
        velocity = event.speed * WAYS[event.way][axis]
        first = ((high if velocity > 0 else low) - before) / velocity
        step = (high - low) / abs(velocity)
        return [event.start_s + at for at in np.arange(first, event.seconds, step).tolist()]


def heading(shot: Shot, event: Event) -> str:
    """The way in which a move ends, which differs from its `way` after an odd number of bounces."""
    opposite = {"left": "right", "right": "left", "up": "down", "down": "up"}
    return opposite[event.way] if len(shot.bounces(event)) % 2 else event.way


def stack(states: Sequence[States]) -> States:
    """States of many shots, one after the other along time; shots with fewer things get some that are not there."""
    most = max(each.alpha.shape[1] for each in states)

    def joined(name: str) -> NDArray[np.float64]:
        arrays = [getattr(each, name) for each in states]
        return np.concatenate(
            [
                np.pad(array, [(0, 0), (0, most - array.shape[1])] + [(0, 0)] * (array.ndim - 2), mode="constant")
                for array in arrays
            ]
        )

    named = {name: joined(name) for name in ("place", "radius", "angle", "colour", "alpha")}
    return States(**named, camera=np.concatenate([each.camera for each in states]))


def _done(event: Event, when: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of the event that is over, 0 to 1."""
    return np.clip((when - event.start_s) / event.seconds, 0.0, 1.0)


def _place(thing: Thing, events: Sequence[Event], when: NDArray[np.float64]) -> NDArray[np.float64]:
    """Moves one after the other, each mirrored at the walls, and hops on top of them."""
    begin = np.asarray(thing.place, np.float64)
    at = np.tile(begin, (len(when), 1))
    low, high = thing.radius, 1 - thing.radius
    for event in events:
        if event.kind == "move":
            step = event.speed * np.asarray(WAYS[event.way])
            gone = np.outer(_done(event, when) * event.seconds, step)
            at = np.where((when >= event.start_s)[:, None], _mirrored(begin + gone, low, high), at)
            begin = _mirrored(begin + event.seconds * step, low, high)
    for event in events:
        if event.kind == "hop":
            at[:, 1] -= HOP * np.sin(np.pi * _done(event, when))
    return at


def _mirrored(place: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Places folded back into low..high, as by walls that throw back without loss."""
    inside = (place >= low) & (place <= high)
    if inside.all():
        return place
    span = high - low
    folded = low + span - np.abs((place - low) % (2 * span) - span)
    return np.where(inside, place, folded)


def _radius(thing: Thing, events: Sequence[Event], when: NDArray[np.float64]) -> NDArray[np.float64]:
    radius = np.full(len(when), thing.radius)
    for event in events:
        radius *= SIZE ** (_done(event, when) * (1 if event.kind == "grow" else -1))
    return radius


def _angle(thing: Thing, events: Sequence[Event], when: NDArray[np.float64]) -> NDArray[np.float64]:
    angle = np.full(len(when), thing.angle)
    for event in events:
        angle += _done(event, when) * event.seconds * event.speed * (1 if event.way == "clockwise" else -1)
    return angle


def _alpha(events: Sequence[Event], when: NDArray[np.float64]) -> NDArray[np.float64]:
    """There from the first moment, unless the first thing that it does is to appear or flash."""
    there = np.full(len(when), 0.0 if events and events[0].kind in ("appear", "flash") else 1.0)
    for event in events:
        done = _done(event, when)
        if event.kind == "flash":
            there = np.where((when >= event.start_s) & (when < event.stop_s), 1.0, there)
        else:
            there = np.where(done > 0, done if event.kind == "appear" else 1 - done, there)
    return there


def _colour(thing: Thing, events: Sequence[Event], when: NDArray[np.float64]) -> NDArray[np.float64]:
    colour = np.tile(COLOURS[thing.colour], (len(when), 1))
    for event in events:
        done = _done(event, when)[:, None]
        colour = (1 - done) * colour + done * np.asarray(COLOURS[event.way])
    return colour
