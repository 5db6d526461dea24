"""Laws of the world: truth, pixels and sound tell the same story, and any part of it is the same however it is reached."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from attime.laws.contract import Law
from attime.streams.world import World, captions, decode, encode, flow, masks, paint, questions
from attime.streams.world.sound import sound
from attime.streams.world.truth import annotation, log, tracks

__all__ = ["WORLD_LAWS"]

NEEDS = ("scenes",)
FPS = 4.0


def a_longer_world_begins_with_the_shorter_one(world: World) -> None:
    """Making it longer changes nothing of what was there: frames, sound, words."""
    longer = replace(world, seconds=world.seconds + 1.5 * world.shot_s)
    end = world.seconds
    ours, theirs = (
        np.concatenate([f for f, _ in each.frames(0, end, fps=FPS, size=(16, 16))]) for each in (world, longer)
    )
    assert np.array_equal(ours, theirs), "frames differ"
    ours, theirs = (np.concatenate([s for s, _ in sound(each, 0, end, rate=8000)]) for each in (world, longer))
    assert np.array_equal(ours, theirs), "sound differs"
    ours, theirs = (
        [c for shot in each.shots(0, end - world.shot_s) for c in captions(shot)] for each in (world, longer)
    )
    assert ours == theirs, "captions differ"


def any_way_of_reaching_it_agrees(world: World) -> None:
    """Frames in pieces of any size, or from the middle, are the frames of the whole; likewise the sound."""
    whole, when = (np.concatenate(each) for each in zip(*world.frames(fps=FPS, size=(16, 16)), strict=True))
    assert (np.diff(when) > 0).all(), "time does not rise"
    assert len(when) == np.ceil(world.seconds * FPS), f"{len(when)} frames in {world.seconds} s at {FPS} a second"
    pieces = np.concatenate([frames for frames, _ in world.frames(fps=FPS, size=(16, 16), chunk=3)])
    assert np.array_equal(pieces, whole), "the size of the pieces changes the frames"
    start = 0.4 * world.seconds
    late = np.concatenate([frames for frames, _ in world.frames(start, fps=FPS, size=(16, 16))])
    assert np.array_equal(late, whole[when >= start]), "starting in the middle changes the frames"
    heard = np.concatenate([samples for samples, _ in sound(world, rate=8000)])
    parts = np.concatenate([samples for samples, _ in sound(world, rate=8000, chunk_s=0.37)])
    assert np.array_equal(heard, parts), "the size of the pieces changes the sound"


def pixels_are_where_the_truth_is(world: World) -> None:
    """The middle and the colour of every thing's pixels, painted alone, are those of its state."""
    size = (64, 64)
    for shot in world.shots(0, 2 * world.shot_s):
        when = np.arange(shot.start_s, shot.stop_s, 0.5)
        states = shot.at(when)
        for who, thing in enumerate(shot.things):
            events = tuple(replace(event, who=0) for event in shot.of(who))
            alone = replace(shot, things=(thing,), events=events, clutter=(), backdrop="plain", shade=0.0)
            seen, frames = masks(alone, when, size=size) == 0, paint(alone, when, size=size) / 255
            for moment in np.flatnonzero((states.alpha[:, who] == 1) & ~_at_the_edge(seen)):
                row, column = np.nonzero(seen[moment])
                middle = np.array([column.mean() + 0.5, row.mean() + 0.5]) / 64
                assert np.abs(middle - states.place[moment, who]).max() < 0.03, f"the {thing.name} is at {middle}"
                apart = np.abs(frames[moment][seen[moment]] - states.colour[moment, who]).max(axis=1)
                assert apart.min() < 0.02, f"the {thing.name} has not its colour"


def flow_says_where_pixels_go(world: World) -> None:
    """The middle of a thing's pixels moves as its flow says; where nothing moves there is none."""
    for shot in world.shots(0, 2 * world.shot_s):
        when = np.arange(shot.start_s, shot.stop_s, 0.25)
        for who, thing in enumerate(shot.things):
            alone = replace(shot, things=(thing,), events=tuple(replace(e, who=0) for e in shot.of(who, "move", "hop")))
            seen, moved = masks(alone, when, size=(64, 64)) == 0, flow(alone, when, size=(64, 64))
            middle = np.array([[np.nonzero(frame)[1].mean(), np.nonzero(frame)[0].mean()] for frame in seen])
            told = np.stack([step[frame].mean(axis=0) for step, frame in zip(moved, seen[:-1], strict=True)])
            edge = _at_the_edge(seen)
            apart = np.abs(np.diff(middle, axis=0) - told)[~(edge[1:] | edge[:-1])]
            assert apart.max(initial=0.0) < 1.0, f"the {thing.name} goes elsewhere"
            assert not moved[~seen[:-1]].any(), "the backdrop moves without a pan"


def sounds_are_when_things_happen(world: World) -> None:
    """It is loud while something happens and quiet while nothing does."""
    rate = 8000
    for shot in world.shots(0, 2 * world.shot_s):
        heard = np.concatenate([samples for samples, _ in sound(world, shot.start_s, shot.stop_s, rate=rate)])
        when = shot.start_s + (np.arange(len(heard)) + 0.5) / rate
        busy = np.zeros(len(heard), bool)
        for event in shot.happenings:
            inside = (when >= event.start_s) & (when < event.stop_s)
            assert np.abs(heard[inside]).max() > 0.02, f"nobody hears a {event.kind} at {event.start_s} s"
            busy |= inside
        if shot.start_s > 0:
            busy |= when < shot.start_s + 0.5  # the cut
        assert np.abs(heard[~busy]).max(initial=0.0) < 1e-3, "there is a sound without a reason"


def what_happens_is_seen(world: World) -> None:
    """While an event goes on, a thing alone on a plain backdrop looks different from before it; nobody turns unseen."""
    for shot in world.shots():
        for event in shot.happenings:
            own = tuple(replace(each, who=0) for each in shot.events if each.who == event.who and each.who >= 0)
            things = (shot.things[event.who],) if event.who >= 0 else shot.things
            events = own if event.who >= 0 else (event,)
            alone = replace(shot, things=things, events=events, clutter=(), backdrop="plain")
            when = np.linspace(event.start_s - 1e-6, event.stop_s - 1e-6, 5)
            frames = paint(alone, when, size=(64, 64)).astype(int)
            assert np.abs(np.diff(frames, axis=0)).max() > 20, f"nobody sees the {shot.name(event.who)} {event.kind}"


def questions_have_one_answer(world: World) -> None:
    """Answers stand among different options, are in the world's language, and an interval is that of an event."""
    for shot in world.shots():
        asked = questions(shot, seed=world.seed)
        assert asked == questions(shot, seed=world.seed), "the same seed asks other questions"
        for question in asked:
            assert len(set(question.options)) == len(question.options), f"options twice: {question.options}"
            assert question.answer in question.options or question.kind == "when", f"{question.answer} is no option"
            assert decode(encode(question.answer)) == question.answer, "the answer is not in the language"
            assert decode(encode(question.text)) == question.text, "the question is not in the language"
            assert shot.start_s <= question.start_s <= question.stop_s <= max(shot.stop_s, question.stop_s)
            if question.kind == "when":
                start, stop = (float(word) + shot.start_s for word in question.answer.split()[1::2])
                assert any(abs(e.start_s - start) + abs(e.stop_s - stop) < 0.02 for e in shot.happenings), (
                    question.answer
                )


def the_log_and_the_tracks_agree_with_the_scene(world: World) -> None:
    """Every event is logged at its time; tracks hold who is there, where it is; the annotation is JSON."""
    import json

    events, walked = log(world), tracks(world, fps=FPS)
    assert len(json.dumps(annotation(world))) > 100
    for number, shot in enumerate(world.shots()):
        for event in shot.happenings:
            found = (events.when_s == event.start_s) & (events.values == events.labels.index(event.kind))
            assert found.any(), f"{event} is not in the log"
        here = walked.recording == number
        states = shot.at(walked.frame[here] / FPS)
        place = states.place[np.arange(here.sum()), walked.walker[here]]
        assert np.allclose(place, walked.place[here]), "a track is not where the thing is"


WORLD_LAWS = (
    Law(a_longer_world_begins_with_the_shorter_one, needs=NEEDS),
    Law(any_way_of_reaching_it_agrees, needs=NEEDS),
    Law(pixels_are_where_the_truth_is, needs=NEEDS),
    Law(flow_says_where_pixels_go, needs=NEEDS),
    Law(sounds_are_when_things_happen, needs=NEEDS),
    Law(what_happens_is_seen, needs=NEEDS),
    Law(questions_have_one_answer, needs=NEEDS),
    Law(the_log_and_the_tracks_agree_with_the_scene, needs=NEEDS),
)


def _at_the_edge(seen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(time,): frames in which the mask (time, height, width) may go on outside of the picture, as in a hop."""
    rows, columns = seen[:, [0, -1]].any(axis=(1, 2)), seen[:, :, [0, -1]].any(axis=(1, 2))
    return np.logical_or(rows, columns)
