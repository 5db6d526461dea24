"""The world's sound: when things happen, what they sound like, and the same samples however it is cut."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from attime.errors import AttimeError
from attime.streams.world import COLOURS, KINDS, Event, Shot, Thing, World, encode
from attime.streams.world.ask_sound import SOUND_QUESTIONS, sound_questions
from attime.streams.world.scene import CAMERA
from attime.streams.world.sound import LOUD, NOTES, VOICES, hear, hear_many, sound, sounds

RATE = 16000


def _alone(kind: str, colour: str = "red") -> Shot:
    """A shot in which one thing happens, from 1 to 2.5 s."""
    way = {"move": "left", "pan": "left", "turn": "clockwise", "recolour": "white"}.get(kind, "")
    who = CAMERA if kind == "pan" else 0
    event = Event(kind=kind, who=who, start_s=1.0, stop_s=2.5, way=way, speed=0.1)
    thing = Thing(colour=colour, shape="ring", place=(0.5, 0.5))
    return Shot(start_s=0, stop_s=4, things=(thing,), events=(event,))


def _picture(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Loudness by time and pitch, of length 1."""
    frames = samples[: len(samples) // 512 * 512].reshape(-1, 512) * np.hanning(512)
    bands = abs(np.fft.rfft(frames))
    return bands / np.linalg.norm(bands)


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_is_heard_from_its_start_to_its_stop(kind: str) -> None:
    heard = hear(_alone(kind), rate=RATE)
    loud = np.flatnonzero(abs(heard) > 0.02 * LOUD) / RATE
    assert abs(loud[0] - 1) < 0.02, f"begins at {loud[0]}"
    assert abs(loud[-1] - 2.5) < 0.02, f"ends at {loud[-1]}"
    assert not heard[:RATE].any(), "heard before it starts"
    assert not heard[int(2.5 * RATE) :].any(), "heard after it stops"


@pytest.mark.parametrize("kind", KINDS)
def test_no_sound_begins_or_ends_with_a_click(kind: str) -> None:
    heard = hear(_alone(kind), rate=RATE)
    assert abs(heard[RATE : RATE + 16]).max() < 0.1 * LOUD
    assert abs(heard[int(2.5 * RATE) - 16 : int(2.5 * RATE)]).max() < 0.1 * LOUD


def test_kinds_sound_different() -> None:
    pictures = {kind: _picture(hear(_alone(kind), 1, 2.5, rate=RATE)) for kind in KINDS}
    for one, other in combinations(KINDS, 2):
        assert (pictures[one] * pictures[other]).sum() < 0.92, f"{one} sounds like {other}"


@pytest.mark.parametrize("colour", COLOURS)
def test_each_colour_has_its_note(colour: str) -> None:
    heard = hear(_alone("move", colour), 1, 2, rate=RATE)
    assert abs(np.argmax(abs(np.fft.rfft(heard))) - NOTES[colour]) <= 1


def test_a_crescendo_grows_and_a_decrescendo_shrinks() -> None:
    for kind, rises in (("grow", True), ("shrink", False)):
        heard = abs(hear(_alone(kind), 1, 2.5, rate=RATE))
        assert (heard[: RATE // 2].mean() < heard[-RATE // 2 :].mean()) == rises


def test_bounces_and_cuts_are_heard() -> None:
    thing = Thing(colour="blue", shape="star", place=(0.8, 0.5))
    move = Event(kind="move", who=0, start_s=5, stop_s=7, way="right", speed=0.3)
    shot = Shot(start_s=4, stop_s=8, things=(thing,), events=(move,))
    assert [each.kind for each in sounds(shot)] == ["cut", "move", "bounce"]
    when = shot.bounces(move)[0]
    window = np.hanning(800)
    before, at = (
        abs(np.fft.rfft(window * hear(shot, when + shift, when + shift + 0.05, rate=RATE)))[100:]
        for shift in (-0.06, 0)
    )
    assert np.linalg.norm(at) > 10 * np.linalg.norm(before), "nothing above 2 kHz is heard at the bounce"
    assert abs(hear(shot, 4, 4.1, rate=RATE)).max() > 0.3 * LOUD
    assert not hear(replace(shot, start_s=0), 4, 4.1, rate=RATE).any()


@pytest.mark.parametrize("rate", [8000, 11025, 16000])
def test_any_cutting_gives_the_same_samples(rate: int) -> None:
    world = World(seed=4, seconds=21.3, needle_s=9.3)
    whole = np.concatenate([samples for samples, _ in sound(world, rate=rate, chunk_s=8)])
    assert len(whole) == np.ceil(21.3 * rate)
    for chunk_s in (1.0, 0.0371):
        pieces = list(sound(world, rate=rate, chunk_s=chunk_s))
        assert np.array_equal(np.concatenate([samples for samples, _ in pieces]), whole)
        lengths = np.cumsum([0] + [len(samples) for samples, _ in pieces[:-1]])
        assert np.allclose([when for _, when in pieces], lengths / rate)
    late = np.concatenate([samples for samples, _ in sound(world, 6.1, 18.2, rate=rate)])
    assert np.array_equal(late, whole[int(np.ceil(6.1 * rate)) : int(np.ceil(18.2 * rate))])


def test_many_shots_sound_as_each_does() -> None:
    world = World(seed=2, shot_s=4, events=(2, 4))
    shots = [world.shot(number) for number in range(5)]
    many = hear_many(shots, 4, rate=8000)
    assert many.shape == (5, 32000)
    assert many.dtype == np.float32
    assert all(np.array_equal(row, hear(shot, rate=8000)) for row, shot in zip(many, shots, strict=True))


def test_a_crowd_does_not_clip() -> None:
    shot = _alone("move")
    crowd = replace(shot, events=tuple(replace(_alone(kind).events[0], kind=kind) for kind in ("grow", "hop", "flash")))
    assert 0.3 < abs(hear(crowd, rate=RATE)).max() < 1
    assert set(VOICES) == {*KINDS, "bounce", "cut"}


def test_questions_about_sound_are_right_and_in_the_language() -> None:
    world = World(seed=1, shot_s=4, events=(2, 4))
    asked = [question for number in range(40) for question in sound_questions(world.shot(number))]
    assert {question.kind for question in asked} == set(SOUND_QUESTIONS)
    assert all(encode(f"{question.text} {question.answer}") for question in asked)
    assert all(question.answer in question.options for question in asked if question.options)
    two = (
        Thing(colour="red", shape="ring", place=(0.3, 0.5)),
        Thing(colour="cyan", shape="ring", place=(0.7, 0.5)),
    )
    hop, grow = (
        Event(kind=kind, who=who, start_s=4 + start, stop_s=5 + start)
        for kind, who, start in (("hop", 1, 0.5), ("grow", 0, 2))
    )
    answers = {q.text: q.answer for q in sound_questions(Shot(start_s=4, stop_s=8, things=two, events=(hop, grow)))}
    assert answers == {
        "what colour is the thing which hops ?": "cyan",
        "what colour is the thing which grows ?": "red",
        "which sounds first : the red thing or the cyan thing ?": "cyan",
        "which sounds first : the cyan thing or the red thing ?": "cyan",
        "what sounds first ?": "the cyan thing hops",
        "what sounds last ?": "the red thing grows",
        "what sounds and when ?": "the cyan thing hops from 0.5 to 1.5 , the red thing grows from 2 to 3",
    }


def test_bad_input_is_refused() -> None:
    with pytest.raises(AttimeError, match="rate of 8000"):
        hear(_alone("move"), rate=4000)
    with pytest.raises(AttimeError, match="chunk_s"):
        list(sound(World(), chunk_s=0))
    with pytest.raises(AttimeError, match="which, order, ends, then, story"):
        sound_questions(_alone("move"), kinds=("where",))
