"""What can be asked at a second of a stream of the world: exact answers from what has happened until then."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from attime.streams.world import COLOURS, SHAPES, Event, Question, Shot, World, questions
from attime.streams.world.tell import VERBS

__all__ = ["NOT_YET", "UNABLE", "Asked", "backward", "forward", "realtime"]

NOT_YET = "not yet"
"""The answer to what cannot be known so far, but will be."""
UNABLE = "unable to answer"
"""The answer about what never was."""
QUARTERS = ("top left", "top right", "bottom left", "bottom right")
SOON = 0.5  # how far ahead the future is asked about, in seconds
SETTLED = 0.5  # seconds for which something must have gone on, or been over, before it is asked about
COUNTS = tuple(str(number) for number in range(6))


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question, when it is asked, and the answer at that time."""

    task: str
    text: str
    options: tuple[str, ...]
    answer: str
    asked_s: float


def backward(world: World, fps: float, random: np.random.Generator) -> Iterator[Asked]:
    """About shots that are over, asked in a later one; names that came twice are left out."""
    shots = list(world.shots())
    for number, shot in enumerate(shots[:-1]):
        now = shots[int(random.integers(number + 1, len(shots)))]
        asked = float(random.choice(_ticks(now, fps)))
        past = [each for each in shots if each.start_s <= now.start_s]
        known = questions(shot, kinds=("what", "direction", "speed", "count"), seed=number)
        order = questions(shot, kinds=("order", "next"), seed=number)
        for task, found in (("episodic memory", known), ("action sequence", order)):
            for question in [each for each in found if _only_in(each, shot, past)][:2]:
                yield _of(question, task, asked)
        answerable = questions(shot, kinds=("what", "direction", "speed"), seed=number + 1)
        mine = [_maybe(each, each.answer) for each in answerable if _only_in(each, shot, past)][:1]
        strange = replace(world, seed=world.seed + 500_000).shot(number)
        theirs = questions(strange, kinds=("what", "direction", "speed"), seed=number)
        foreign = [_maybe(each, UNABLE) for each in theirs if _only_in(each, strange, [*past, strange])][:1]
        for question in (*mine, *foreign) if mine and foreign else ():
            yield _of(question, "hallucination", asked)


def realtime(world: World, fps: float, random: np.random.Generator) -> Iterator[Asked]:
    """About what is there at the moment of asking; at most one question of each task in a shot."""
    for shot in world.shots():
        done: set[str] = set()
        for asked in random.permutation(_ticks(shot, fps)).tolist():
            fresh = {each.task: each for each in _now(shot, asked, random) if each.task not in done}
            done |= set(fresh)
            yield from fresh.values()


def forward(world: World, fps: float, random: np.random.Generator) -> Iterator[Asked]:
    """The same question at several moments of a shot, before and after what answers it."""
    shots = list(world.shots())
    for number, shot in enumerate(shots):
        ticks = _ticks(shot, fps)
        for who in range(len(shot.things)):
            name, hops = shot.name(who), shot.of(who, "hop")
            if hops and sum(name in _names(each) for each in shots[: number + 1]) == 1:
                for tick in _rests(hops, ticks, random):
                    yield Asked(
                        task="repetition",
                        text=f"how many times does the {name} hop ?",
                        options=COUNTS,
                        answer=str(sum(hop.stop_s <= tick for hop in hops)),
                        asked_s=tick,
                    )
            for kind in sorted({event.kind for event in shot.of(who)}):
                yield from _step(shot, who, kind, ticks, random)
        clues = questions(shot, kinds=("direction", "order", "what"), seed=number)
        for question in [each for each in clues if _only_in(each, shot, shots[: number + 1])][:3]:
            yield from _clue(question, ticks, random)


def _rests(hops: Sequence[Event], ticks: Sequence[float], random: np.random.Generator) -> list[float]:
    """Moments between hops: up to two for every count that can be had."""
    found: dict[int, list[float]] = defaultdict(list)
    for tick in random.permutation(ticks).tolist():
        over = sum(hop.stop_s <= tick for hop in hops)
        if len(found[over]) < 2 and not any(hop.start_s < tick < hop.stop_s for hop in hops):
            found[over].append(tick)
    return sorted(tick for each in found.values() for tick in each)


def _step(shot: Shot, who: int, kind: str, ticks: Sequence[float], random: np.random.Generator) -> Iterator[Asked]:
    """Whether somebody is at it: twice before, once during, once after; only what is done once."""
    events = shot.of(who, kind)
    if len(events) != 1:
        return
    start, stop = events[0].start_s, events[0].stop_s
    before = [tick for tick in ticks if tick <= start]
    during = [tick for tick in ticks if start + SETTLED / 2 <= tick < stop - SETTLED / 4]
    after = [tick for tick in ticks if tick >= stop + SETTLED]
    if len(before) < 2 or not during or not after:
        return
    times = [*random.choice(before, 2, replace=False), random.choice(during), random.choice(after)]
    for tick, answer in zip(times, ("no", "no", "yes", "no"), strict=True):
        text = f"does the {shot.name(who)} {kind} at the end ?"
        yield Asked(task="steps", text=text, options=("no", "yes"), answer=answer, asked_s=float(tick))


def _clue(question: Question, ticks: Sequence[float], random: np.random.Generator) -> Iterator[Asked]:
    """Three times before anybody can know, twice when everybody can."""
    before = [tick for tick in ticks if tick <= question.start_s]
    after = [tick for tick in ticks if tick >= question.stop_s]
    if len(before) < 3 or len(after) < 2:
        return
    for known, times in ((False, before), (True, after)):
        for tick in sorted(random.choice(times, 2 if known else 3, replace=False).tolist()):
            yield Asked(
                task="clue",
                text=question.text,
                options=(NOT_YET, *question.options),
                answer=question.answer if known else NOT_YET,
                asked_s=tick,
            )


def _now(shot: Shot, asked: float, random: np.random.Generator) -> Iterator[Asked]:
    """What can be asked about this moment; `at the end` is the end of what has been seen."""
    state, later = shot.at([asked]), shot.at([asked + SOON])
    there = [who for who in range(len(shot.things)) if state.alpha[0, who] == 1]
    colours = {who: _colour(state.colour[0, who]) for who in there}
    shapes = [shot.things[who].shape for who in there]
    active = [event for event in shot.events if event.start_s < asked < event.stop_s]
    moving = {event.who for event in active if event.kind == "move" and event.stop_s >= asked + SOON}
    for who in random.permutation(there).tolist():
        name, quarter = shot.name(who), _quarter(state.place[0, who] - state.camera[0])
        if quarter:
            text = f"where is the {name} at the end ?"
            yield Asked(task="space", text=text, options=QUARTERS, answer=quarter, asked_s=asked)
        then = _quarter(later.place[0, who] - later.camera[0])
        if who in moving and then:
            text = f"where is the {name} after {SOON:g} seconds ?"
            yield Asked(task="future", text=text, options=QUARTERS, answer=then, asked_s=asked)
        colour, shape = colours[who], shot.things[who].shape
        if colour and shapes.count(shape) == 1 and len(there) == len(shot.things):
            text = f"what colour is the {shape} at the end ?"
            yield Asked(task="attribute", text=text, options=tuple(COLOURS), answer=colour, asked_s=asked)
        present = {f"{colours[each]} {shot.things[each].shape}" for each in there}
        absent = [f"{colour} {shape}" for colour in COLOURS if colour not in colours.values() for shape in SHAPES]
        if all(colours.values()):
            yes = bool(random.random() < 0.5)
            text = f"is there a {f'{colour} {shape}' if yes else random.choice(absent)} at the end ?"
            if len(present) == len(shot.things):
                yield Asked(
                    task="object", text=text, options=("yes", "no"), answer="yes" if yes else "no", asked_s=asked
                )
    if len(active) == 1 and active[0].who >= 0 and active[0].start_s + SETTLED <= asked:
        text = f"what does the {shot.name(active[0].who)} do at the end ?"
        options = tuple(VERBS[kind] for kind in VERBS if kind not in ("pan", "flash"))
        yield Asked(task="action", text=text, options=options, answer=VERBS[active[0].kind], asked_s=asked)


def _of(question: Question, task: str, asked: float) -> Asked:
    return Asked(task=task, text=question.text, options=question.options, answer=question.answer, asked_s=asked)


def _maybe(question: Question, answer: str) -> Question:
    return replace(question, options=(*question.options, UNABLE), answer=answer)


def _ticks(shot: Shot, fps: float) -> list[float]:
    """The moments of the shot's frames but the first."""
    first, last = int(np.ceil(shot.start_s * fps - 1e-9)), int(np.ceil(shot.stop_s * fps - 1e-9))
    return [tick / fps for tick in range(first + 1, last)]


def _names(shot: Shot) -> set[str]:
    """What people could call anything in the shot at any time."""
    turned = {f"{event.way} {shot.things[event.who].shape}" for event in shot.events if event.kind == "recolour"}
    return {thing.name for thing in shot.things} | turned


def _only_in(question: Question, shot: Shot, shots: Sequence[Shot]) -> bool:
    """Whether every name of the question means one thing, in this shot, among these shots."""
    others = set().union(*(_names(each) for each in shots if each.start_s != shot.start_s or each is not shot))
    return bool(question.about) and not set(question.about) & others


def _colour(shade: np.ndarray) -> str:
    """The colour that this is, or nothing in between two."""
    return next((name for name, value in COLOURS.items() if np.allclose(shade, value)), "")


def _quarter(place: np.ndarray) -> str:
    """The quarter of the stage, or nothing near its lines."""
    x, y = place.tolist()
    if min(abs(x - 0.5), abs(y - 0.5)) <= 0.08:
        return ""
    return f"{'top' if y < 0.5 else 'bottom'} {'left' if x < 0.5 else 'right'}"
