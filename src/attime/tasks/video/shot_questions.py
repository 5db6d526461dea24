"""The world's own questions about its shots, as they come: nothing is arranged, and some kinds need no time at all."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from attime.errors import AttimeError
from attime.streams.world import QUESTIONS, World, questions
from attime.tasks.quiz import Item, Quiz
from attime.tasks.video.stage import FRAMES, HELD_OUT, STAGE, film

__all__ = ["ShotQuestions"]

TRIES = 100  # shots that are looked at for each question before it is said that there are too few


@final
@dataclass(frozen=True, kw_only=True)
class ShotQuestions(Quiz):
    """Multiple choice among the answers that the world gives to questions of a kind; at most one of a kind in a shot.

    An item's `telling` frame is the one in which what answers it is over, or the last before that.
    """

    kinds: tuple[str, ...] = ("direction", "order", "count", "where", "change", "colour")
    per_kind: int = 20
    world: World = STAGE

    def __post_init__(self) -> None:
        unknown = set(self.kinds) - (set(QUESTIONS) - {"when"})
        if unknown or not self.kinds or self.per_kind < 1:
            raise AttimeError(
                f"ShotQuestions needs a question or more of kinds among {', '.join(set(QUESTIONS) - {'when'})}; "
                f"got kinds={self.kinds}, per_kind={self.per_kind}."
            )

    @property
    def protocol(self) -> str:
        return f"shot-questions/{self.world.name}/{len(self.kinds)}x{self.per_kind}"

    def items(self, *, seed: int = 0) -> Sequence[Item]:
        world = replace(self.world, seed=HELD_OUT + seed)
        random = np.random.default_rng(HELD_OUT + seed)
        items: dict[str, list[Item]] = {kind: [] for kind in self.kinds}
        for number in range(TRIES * self.per_kind):
            wanted = [kind for kind in self.kinds if len(items[kind]) < self.per_kind]
            if not wanted:
                return [item for kind in self.kinds for item in items[kind]]
            shot = world.shot(number)
            clip = film(shot, noise=world.noise, seed=number)
            for question in questions(shot, kinds=wanted, seed=number):
                if items[question.kind] and items[question.kind][-1].clip is clip:
                    continue
                place = int((question.stop_s - shot.start_s) / clip.seconds_per_frame) / (FRAMES - 1)
                items[question.kind].append(
                    Item(
                        clip=clip,
                        question=question.text,
                        options=tuple(random.permutation(question.options).tolist()),
                        answer=question.answer,
                        aspect=question.kind,
                        telling=min(1.0, place),
                    )
                )
        few = {kind: len(found) for kind, found in items.items() if len(found) < self.per_kind}
        raise AttimeError(f"{self.world.name} gives too few questions, {few}: let more kinds of events happen in it.")

    @classmethod
    def examples(cls) -> Sequence["ShotQuestions"]:
        return [cls(per_kind=10), cls(kinds=("direction", "speed", "exists"), per_kind=12)]
