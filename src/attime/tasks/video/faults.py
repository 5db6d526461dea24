"""Clips with known faults: things that blink, things that jump, cuts to another scene, each worse than the one before."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attime.errors import AttimeError
from attime.streams.world import Event, Shot, paint

__all__ = ["FAULTS", "Faulty", "faults"]

FAULTS = ("clean", "blinks", "jumps", "cuts")
"""From none to the worst."""
BLINKS, JUMPS, CUTS = 3, 6, 5  # frames in which it happens, of sixteen


@dataclass(frozen=True, kw_only=True)
class Faulty:
    """What each frame of a clip shows (None is another scene), and its pixels."""

    shown: Sequence[Shot | None]
    frames: NDArray[np.uint8]


def faults(
    shot: Shot, other: Shot, when_s: ArrayLike, *, size: tuple[int, int] = (32, 32), seed: int = 0
) -> dict[str, Faulty]:
    """The shot at these moments, faultless (`clean`) and with its first thing gone in some frames (`blinks`), with its things
    at other places from some frames on (`jumps`), and with some frames of another shot (`cuts`).
    """
    when = np.asarray(when_s, np.float64)
    if len(when) < 8:
        raise AttimeError(f"faults need eight moments or more; got {len(when)}.")
    random, later = np.random.default_rng(seed), np.arange(1, len(when))

    def some(count: int) -> list[int]:
        return sorted(random.choice(later, max(1, round(count * len(when) / 16)), replace=False).tolist())

    vanished = Event(kind="vanish", who=0, start_s=shot.start_s - 2, stop_s=shot.start_s - 1)
    gone = replace(shot, events=(vanished, *shot.events))
    shown: dict[str, list[Shot | None]] = {name: [shot] * len(when) for name in FAULTS}
    for frame in some(BLINKS):
        shown["blinks"][frame] = gone
    for frame in some(JUMPS):
        places = random.uniform(0.15, 0.85, (len(shot.things), 2)).tolist()
        things = [replace(thing, place=(x, y)) for thing, (x, y) in zip(shot.things, places, strict=True)]
        shown["jumps"][frame:] = [replace(shot, things=tuple(things))] * (len(when) - frame)
    for frame in some(CUTS):
        shown["cuts"][frame] = None
    made = {}
    for name, scenes in shown.items():
        frames = [
            paint(scene, [at], size=size)
            if scene is not None
            else paint(other, [other.start_s + at - shot.start_s], size=size)
            for scene, at in zip(scenes, when, strict=True)
        ]
        made[name] = Faulty(shown=scenes, frames=np.concatenate(frames))
    return made
