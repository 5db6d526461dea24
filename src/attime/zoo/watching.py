"""What the watcher learns from: shots of the world and questions about them, level by level.

All kinds of questions at once kept a small model at chance for thousands of clips; which way a single thing goes took it a
hundred steps. So it starts there, and each level begins when nearly all answers of the one before are right.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attime.streams.world.ask import Question, questions
from attime.streams.world.paint import paint_many
from attime.streams.world.scene import Shot
from attime.streams.world.world import World

__all__ = ["FPS", "FRAMES", "KINDS", "NEED", "SIZE", "Course", "Exam", "Level", "exam", "film", "levels", "right"]

SIZE, FRAMES, FPS = 32, 16, 4
NOISE = 0.03
RADIUS = (0.09, 0.14)  # in a picture of 32 pixels shapes of less are blots
NEED = ("direction", "order", "count", "when")
"""Kinds of questions that need time and are bound by goals."""
KINDS = (*NEED, "what", "speed", "next", "where", "change", "colour", "exists")
EVERYTHING = ("move", "hop", "appear", "vanish", "recolour")
TURNS, REST = 10, 3  # questions about one shot at most, and those of them that are not of the kinds in NEED
PASSED = 0.85  # share of right answers with which a level is left
LEAST, MOST = 150, 2500  # steps of a level


@dataclass(frozen=True, kw_only=True)
class Level:
    """Worlds, what is asked about them, and of which kinds of questions most must be answered before the next level."""

    worlds: tuple[World, ...]
    asked: tuple[str, ...]
    passed: tuple[str, ...]


def levels(seed: int) -> tuple[Level, ...]:
    """One thing goes one way; one thing moves and hops; two do; and everything that is asked in the end."""

    def world(things: tuple[int, int], events: tuple[int, int], *kinds: str, bounces: bool = True) -> World:
        return World(
            seed=seed,
            shot_s=FRAMES / FPS,
            grid_s=0.5,
            things=things,
            events=events,
            kinds=kinds,
            bounces=bounces,
            backdrops=("plain",),
            noise=NOISE,
            radius=RADIUS,
        )

    first = ("direction", "speed", "when")
    second = (*first, "what", "count", "exists", "colour")
    return (
        Level(
            worlds=(world((1, 1), (1, 1), "move", bounces=False),),
            asked=first,
            passed=("direction", "when"),
        ),
        Level(
            worlds=(world((1, 1), (1, 3), "move", "hop"),),
            asked=second,
            passed=("direction", "what", "exists"),
        ),
        Level(
            worlds=(world((2, 2), (2, 3), "move", "hop"), world((1, 2), (2, 4), "hop")),
            asked=(*second, "order"),
            passed=("direction", "count", "order"),
        ),
        Level(
            worlds=(
                world((2, 2), (2, 4), "move", "hop"),
                world((2, 2), (2, 4), *EVERYTHING),
                world((1, 2), (2, 4), "hop"),
                world((1, 2), (2, 4), *EVERYTHING),
            ),
            asked=KINDS,
            passed=(),
        ),
    )


def film(shots: Sequence[Shot], *, seed: int) -> NDArray[np.uint8]:
    """Frames (shots, 16, 32, 32, 3) of shots of four seconds."""
    return paint_many(shots, np.arange(FRAMES) / FPS, size=(SIZE, SIZE), noise=NOISE, seed=seed)


def _telling(world: World, number: int, kinds: Sequence[str]) -> tuple[Shot, list[Question]]:
    """The first of eight shots about which something is asked that needs time, and all that is asked about it."""
    for each in range(8 * number, 8 * number + 7):
        shot = world.shot(each)
        found = questions(shot, kinds=kinds, seed=number)
        if any(question.kind in NEED for question in found):
            return shot, found
    shot = world.shot(8 * number + 7)
    return shot, questions(shot, kinds=kinds, seed=number)


class Course:
    """The levels and how far somebody has come; lessons depend on the seed, the step and the level alone."""

    def __init__(self, seed: int) -> None:
        self.seed, self.levels = seed, levels(seed)
        self.level, self.since = 0, 0
        self.right: dict[str, float] = defaultdict(float)

    def lesson(self, step: int, clips: int) -> tuple[list[Shot], list[list[Question]]]:
        """Shots, three of four of this level and the others of the two before, and what is asked of each."""
        random = np.random.default_rng([self.seed, step])
        shots, asked = [], []
        for number in range(step * clips, (step + 1) * clips):
            back = int(random.integers(1, 3)) if random.random() < 0.25 else 0
            level = self.levels[max(0, self.level - back)]
            world = level.worlds[number % len(level.worlds)]
            shot, found = _telling(world, number, level.asked)
            need = [question for question in found if question.kind in NEED][: TURNS - REST]
            rest = [question for question in found if question.kind not in NEED][: min(REST, TURNS - len(need))]
            both = need + rest
            shots.append(shot)
            asked.append([both[place] for place in random.permutation(len(both))])
        return shots, asked

    def mark(self, step: int, asked: Sequence[Question], right: Sequence[bool]) -> None:
        """Take note of answers, and go on to the next level if they are good enough."""
        for question, good in zip(asked, right, strict=True):
            self.right[question.kind] += 0.01 * (good - self.right[question.kind])
        needed = self.levels[self.level].passed
        good = min(self.right[kind] for kind in needed) >= PASSED if needed else False
        if needed and (step >= self.since + MOST or (good and step >= self.since + LEAST)):
            self.level, self.since = self.level + 1, step

    def weight(self, question: Question) -> float:
        """How much an answer counts in the lesson: the more, the less its kind is known, and a tenth at least."""
        return 1.1 - self.right[question.kind]

    def __str__(self) -> str:
        return f"level {self.level}  " + "  ".join(
            f"{kind} {self.right[kind]:.2f}" for kind in KINDS if kind in self.right
        )


@dataclass(frozen=True, kw_only=True)
class Exam:
    """Questions, one clip for each, and what was asked and answered before where somebody is in conversation."""

    asked: list[Question]
    frames: NDArray[np.uint8]
    """(questions, time, height, width, 3)"""
    earlier: list[list[Question]]
    """Two other questions about the clip, or fewer if there are no more."""


def exam(seed: int, *, each: int) -> Exam:
    """`each` questions of every kind on shots of the last level; how many times is asked as often for each of 0 to 3."""
    worlds = levels(seed)[-1].worlds
    shots, places, asked, earlier = list[Shot](), list[int](), list[Question](), list[list[Question]]()
    kinds, counts = Counter[str](), Counter[str]()
    number = 0
    while any(kinds[kind] < each for kind in KINDS) and number < 50 * each:
        shot = worlds[number % len(worlds)].shot(number)
        found = questions(shot, kinds=KINDS, seed=number)
        for question in found:
            full = question.kind == "count" and (question.answer > "3" or counts[question.answer] >= (each + 3) // 4)
            if kinds[question.kind] < each and not full:
                counts[question.answer] += question.kind == "count"
                kinds[question.kind] += 1
                asked.append(question)
                earlier.append([other for other in found if other is not question][:2])
                places.append(len(shots))
        shots.append(shot)
        number += 1
    used = sorted(set(places))
    frames = film([shots[place] for place in used], seed=seed)
    return Exam(asked=asked, frames=frames[np.searchsorted(used, places)], earlier=earlier)


def right(question: Question, answer: str) -> bool:
    """Whether it is the answer; an interval is if it and the true one share 0.7 of their union."""
    if question.kind != "when":
        return answer == question.answer
    found, true = (re.fullmatch(r"from ([\d.]+) to ([\d.]+)", text) for text in (answer, question.answer))
    if found is None or true is None:
        return False
    (start, stop), (begin, end) = ((float(each[1]), float(each[2])) for each in (found, true))
    return min(stop, end) - max(start, begin) >= 0.7 * (max(stop, end) - min(start, begin))
