"""The exact truth of a world in the house's own containers: a log of events, tracks, gaze, and one dictionary of it all."""

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attime.streams.events import Events
from attime.streams.tracks import Tracks
from attime.streams.world.ask import questions
from attime.streams.world.scene import KINDS, Shot
from attime.streams.world.tell import captions
from attime.streams.world.world import World

__all__ = ["annotation", "gaze", "log", "tracks"]

LATENCY_S = 0.2  # how long eyes need to find what has just begun to act


def log(world: World, start_s: float = 0.0, stop_s: float | None = None) -> Events:
    """What happens, one sequence per shot, by the moment at which it begins; a cut stands first in every shot but the first."""
    labels = (*KINDS, "bounce", "cut")
    kinds, when, offsets = [], [], [0]
    for shot in world.shots(start_s, stop_s):
        found = [(event.start_s, labels.index(event.kind)) for event in shot.happenings]
        moves = [event for event in shot.happenings if event.kind == "move"]
        found += [(at, labels.index("bounce")) for event in moves for at in shot.bounces(event) if at < shot.stop_s]
        found += [(shot.start_s, labels.index("cut"))] if shot.start_s > 0 else []
        for at, kind in sorted(found):
            kinds.append(kind)
            when.append(at)
        if len(kinds) > offsets[-1]:
            offsets.append(len(kinds))
    return Events(
        name=world.name, values=np.array(kinds, np.int64), offsets=np.array(offsets, np.int64), labels=labels, when_s=np.array(when)
    )  # fmt: skip


def tracks(world: World, start_s: float = 0.0, stop_s: float | None = None, *, fps: float = 8.0) -> Tracks:
    """Where everything is that is there, at multiples of 1 / fps; recordings are shots, places are in stage widths."""
    rows: dict[str, list[NDArray[Any]]] = {name: [] for name in ("recording", "frame", "walker", "place")}
    names = []
    end = world.seconds if stop_s is None else min(stop_s, world.seconds)
    for shot in world.shots(start_s, stop_s):
        ticks = np.arange(
            np.ceil(max(shot.start_s, start_s) * fps - 1e-9),
            np.ceil(min(shot.stop_s, end) * fps - 1e-9),
            dtype=np.int64,
        )
        states = shot.at(ticks / fps)
        frame, walker = np.nonzero(states.alpha > 0.5)
        rows["recording"].append(np.full(len(frame), len(names)))
        rows["frame"].append(ticks[frame])
        rows["walker"].append(walker)
        rows["place"].append(states.place[frame, walker])
        names.append(f"shot {round(shot.start_s / world.shot_s)}")
    return Tracks(
        name=world.name, recordings=tuple(names), **{name: np.concatenate(parts) for name, parts in rows.items()}
    )


def gaze(shot: Shot, when_s: ArrayLike) -> NDArray[np.float64]:
    """(time, 2): where somebody looks, in parts of the picture: at whoever acted last, a fifth of a second late.

    Before anything happens it is the middle; a thing that moves is followed.
    """
    when = np.asarray(when_s, np.float64)
    states = shot.at(when)
    looked = np.full((len(when), 2), 0.5)
    for event in shot.happenings:
        if event.who >= 0:
            later = when >= event.start_s + LATENCY_S
            looked[later] = (states.place[:, event.who] - states.camera)[later]
    return np.clip(looked, 0.0, 1.0)


def annotation(world: World, start_s: float = 0.0, stop_s: float | None = None) -> dict[str, Any]:
    """All of it as JSON can hold it: the knobs, and per shot things, events, captions and questions with answers."""
    return {
        "world": asdict(world),
        "about": world.about,
        "shots": [_annotated(shot, world.seed) for shot in world.shots(start_s, stop_s)],
    }


def _annotated(shot: Shot, seed: int) -> dict[str, Any]:
    things = [{"name": thing.name, "place": thing.place, "radius": thing.radius} for thing in shot.things]
    events = [
        {"what": event.kind, "who": shot.name(event.who), "way": event.way, "speed": event.speed}
        | {"start_s": event.start_s, "stop_s": min(event.stop_s, shot.stop_s)}
        for event in shot.happenings
    ]
    asked = [
        {"kind": each.kind, "question": each.text, "answer": each.answer, "options": each.options}
        | {"start_s": each.start_s, "stop_s": each.stop_s}
        for each in questions(shot, seed=seed)
    ]
    return {
        "start_s": shot.start_s,
        "stop_s": shot.stop_s,
        "backdrop": shot.backdrop,
        "things": things,
        "events": events,
        "captions": [{"start_s": each.start_s, "stop_s": each.stop_s, "text": each.text} for each in captions(shot)],
        "questions": asked,
    }
