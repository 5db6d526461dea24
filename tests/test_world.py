"""The world beyond its laws: the laws bite, bad knobs are refused, and what people see is what the truth says."""

# pyright: reportGeneralTypeIssues=false
# The faulty worlds below inherit from a final one on purpose.

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import attime.laws.world as laws
from attime.errors import AttimeError
from attime.laws.world import WORLD_LAWS
from attime.streams.world import World, ask, captions, encode, paint, paint_many, questions, sound, top_map
from attime.streams.world.scene import Event, Shot, Thing
from attime.streams.world.truth import gaze

LAW = {law.name: law for law in WORLD_LAWS}


class Stretched(World):
    def shot(self, number: int) -> Shot:
        return replace(self, seed=int(self.seconds)).shot(number) if self.seed < 10 else super().shot(number)


class Flickering(World):
    def frames(self, *arguments: Any, chunk: int = 64, **options: Any):
        for frames, when in super().frames(*arguments, chunk=chunk, **options):
            yield frames + np.uint8(chunk), when


def _turned(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments, **options: -function(*arguments, **options)


def _forgetful(function: Callable[..., Any]) -> Callable[..., Any]:
    def log(world: World) -> Any:
        whole = function(world)
        return replace(whole, when_s=whole.when_s + 0.01)

    return log


def _elsewhere(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda shot, when, size: function(replace(shot, events=()), when + 1, size=size)


FAULTS: dict[str, tuple[type[World], Callable[[pytest.MonkeyPatch], None]]] = {
    "a_longer_world_begins_with_the_shorter_one": (Stretched, lambda patch: None),
    "any_way_of_reaching_it_agrees": (Flickering, lambda patch: None),
    "pixels_are_where_the_truth_is": (World, lambda p: p.setattr(laws, "masks", _elsewhere(laws.masks))),
    "flow_says_where_pixels_go": (World, lambda p: p.setattr(laws, "flow", _turned(laws.flow))),
    "sounds_are_when_things_happen": (
        World,
        lambda p: p.setitem(sound.VOICES, "move", lambda since, seconds, each: 0 * since),
    ),
    "what_happens_is_seen": (World, lambda p: p.setattr(laws, "paint", _frozen(laws.paint))),
    "questions_have_one_answer": (World, lambda p: p.setitem(ask.QUESTIONS, "direction", _wrong)),
    "the_log_and_the_tracks_agree_with_the_scene": (World, lambda p: p.setattr(laws, "log", _forgetful(laws.log))),
}


def _frozen(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda shot, when, size: function(shot, when[:1].repeat(len(when)), size=size)


def _wrong(shot: Shot, random: Any) -> list[ask.Question]:
    question = ask.Question(kind="direction", text="which way ?", answer="left", options=("up",), start_s=0, stop_s=1)
    return [question]


@pytest.mark.parametrize("law", LAW)
def test_the_fault_is_caught(law: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, break_it = FAULTS[law]
    world = kind(seed=2, seconds=20.0, kinds=("move",), events=(4, 5), things=(2, 2), bounces=False)
    break_it(monkeypatch)
    with pytest.raises(AssertionError):
        LAW[law].run(world)


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        (dict(kinds=("dance",)), "kinds among"),
        (dict(things=(0, 2)), "fewest <= most"),
        (dict(things=(3, 9)), "at most|<= 6"),
        (dict(seconds=0.0), "above 0"),
        (dict(redundancy=1.0), "redundancy < 1"),
        (dict(events=(3, 40)), "do not fit"),
        (dict(backdrops=("forest",)), "a backdrop is one of"),
    ],
)
def test_bad_knobs_are_refused_in_one_sentence(knobs: dict[str, Any], words: str) -> None:
    with pytest.raises(AttimeError, match=words):
        next(World(**knobs).frames(size=(16, 16)))


def test_unknown_words_and_questions_are_refused() -> None:
    with pytest.raises(AttimeError, match="no word 'elephant'"):
        encode("the red elephant moves")
    with pytest.raises(AttimeError, match="questions are of kinds"):
        questions(World().shot(0), kinds=["why"])


THING = Thing(colour="red", shape="square", place=(0.3, 0.5), radius=0.1)


def test_a_move_ends_where_speed_and_time_say_and_bounces_at_the_wall() -> None:
    right = Event(kind="move", who=0, start_s=1, stop_s=3, way="right", speed=0.4)
    shot = Shot(start_s=0, stop_s=4, things=(THING,), events=(right,))
    assert np.allclose(shot.at([0, 1, 2, 2.5, 3, 4]).place[:, 0, 0], [0.3, 0.3, 0.7, 0.9, 0.7, 0.7])
    assert shot.bounces(right) == [2.5]
    assert [caption.text for caption in captions(shot)] == ["the red square moves right fast", "the red square bounces"]


def test_events_change_what_they_say() -> None:
    events = (
        Event(kind="recolour", who=0, start_s=0, stop_s=1, way="blue"),
        Event(kind="grow", who=0, start_s=1, stop_s=2),
        Event(kind="turn", who=0, start_s=2, stop_s=3, way="clockwise", speed=0.5),
        Event(kind="vanish", who=0, start_s=3, stop_s=4),
        Event(kind="pan", who=-1, start_s=1, stop_s=2, way="right", speed=0.1),
    )
    shot = Shot(start_s=0, stop_s=5, things=(THING,), events=events)
    states = shot.at([0, 1, 2, 3, 5])
    frames = paint(shot, [0, 1, 2, 5], size=(32, 32))
    assert np.allclose(states.radius[:, 0], [0.1, 0.1, 0.16, 0.16, 0.16])
    assert np.allclose(states.angle[:, 0], [0, 0, 0, 0.5, 0.5])
    assert np.allclose(states.alpha[:, 0], [1, 1, 1, 1, 0])
    assert np.allclose(states.camera[:, 0], [0, 0, 0.1, 0.1, 0.1])
    assert frames[0, 16, 9].argmax() == 0, "red"
    assert frames[1, 16, 9].argmax() == 2, "blue"
    assert (frames[3] == frames[3, 0, 0]).all(), "nothing is left"


def test_many_shots_at_once_are_the_shots_one_by_one() -> None:
    shots = [World(seed=seed, things=(1, 4), backdrops=("plain",)).shot(seed) for seed in range(5)]
    when = np.arange(0, 8, 1.3)
    many = paint_many(shots, when, size=(24, 24))
    for shot, frames in zip(shots, many, strict=True):
        assert np.abs(paint(shot, shot.start_s + when, size=(24, 24)).astype(int) - frames).max() <= 1
    patterned = [replace(shots[0], backdrop="dots"), shots[1]]
    assert np.array_equal(paint_many(patterned, when)[0], paint(patterned[0], shots[0].start_s + when, size=(32, 32)))


def test_the_map_ignores_the_camera_and_the_gaze_follows_what_acts() -> None:
    events = (
        Event(kind="pan", who=-1, start_s=0, stop_s=1, way="right", speed=0.2),
        Event(kind="hop", who=1, start_s=2, stop_s=2.5),
    )
    other = Thing(colour="blue", shape="circle", place=(0.8, 0.8))
    shot = Shot(start_s=0, stop_s=4, things=(THING, other), events=events)
    assert top_map(shot, [0, 3], cells=10)[:, 5, 3].tolist() == [0, 0]
    looked = gaze(shot, [0, 2.1, 3])
    assert np.allclose(looked, [[0.5, 0.5], [0.5, 0.5], [0.6, 0.8]])


def test_the_needle_flashes_once_when_asked_for() -> None:
    world = World(seed=5, seconds=100, needle_s=42.0)
    flashes = [event for shot in world.shots() for event in shot.happenings if event.kind == "flash"]
    assert [event.start_s for event in flashes] == [42.0]
    asked = [each for shot in world.shots() for each in questions(shot, kinds=["needle"])]
    assert len(asked) == 1
    frame = next(world.frames(42.5, 43.0, size=(64, 64)))[0][0]
    dark = next(replace(world, needle_s=None).frames(42.5, 43.0, size=(64, 64)))[0][0]
    assert 40 < (frame != dark).any(axis=-1).sum() < 400, "a star is seen"


def test_an_hour_costs_no_more_memory_than_a_minute() -> None:
    world = World(seconds=3600 * 5)
    frames, when = next(world.frames(3600 * 4.5, size=(16, 16)))
    assert frames.shape == (64, 16, 16, 3)
    assert when[0] == 3600 * 4.5
    assert sum(1 for _ in world.shots()) == world.count == 2250
