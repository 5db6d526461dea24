"""Tasks in the form of multiple choice, made of the world's truth so that one frame is not enough for any of them.

Thirteen of the twenty tasks of MVBench can happen in the world. A group is one question and a clip for each of its
options; all clips of a group show the same picture in the middle, so whoever sees that alone is right by chance. Every
option of a group is right once: no place among the options, and no answer, is more likely than another.

Source:  MVBench, arXiv 2311.17005, section 3.1 and table 1 (tasks), and its public evaluation code.
Differs: tasks of collisions, poses, plots and counterfactuals have nothing to happen in here; localisation is by spans of
         seconds; questions and distractors come from the world's truth, where a language model writes some of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final

import numpy as np

from attime.errors import AttimeError
from attime.streams.world import World
from attime.tasks.contract import Traits
from attime.tasks.quiz import Item, Quiz
from attime.tasks.video.choice_shots import CHOICES
from attime.tasks.video.stage import HELD_OUT, STAGE, film

__all__ = ["Choices"]


@final
@dataclass(frozen=True, kw_only=True)
class Choices(Quiz):
    """Groups of clips that differ in the answer to one question (see the module docstring).

    Every task has `per_task` items, so that `accuracy` is the mean over tasks. The `telling` frame is the last one: after
    what has happened.
    """

    traits: ClassVar[Traits] = Traits(batches=False, asks=True, conflicting=True)

    per_task: int = 12
    """Items of each task: a multiple of 12, since groups have two, three or four."""
    tasks: tuple[str, ...] = tuple(CHOICES)
    world: World = STAGE
    """Whose things, backdrops and noise these are; what happens is told by the task."""

    def __post_init__(self) -> None:
        unknown = set(self.tasks) - set(CHOICES)
        if unknown or not self.tasks or self.per_task < 1 or self.per_task % 12:
            raise AttimeError(
                f"Choices needs tasks among {', '.join(CHOICES)} and 12, 24, ... items of each; "
                f"got tasks={self.tasks}, per_task={self.per_task}."
            )

    @property
    def protocol(self) -> str:
        return f"choices/{self.world.name}/{len(self.tasks)}x{self.per_task}"

    def items(self, *, seed: int = 0) -> Sequence[Item]:
        items = []
        for task in self.tasks:
            random = np.random.default_rng([HELD_OUT + seed, list(CHOICES).index(task)])
            world = replace(self.world, seed=HELD_OUT + seed, things=(3, 3), events=(0, 0), radius=(0.08, 0.12))
            number = made = 0
            while made < self.per_task:
                question, shots = CHOICES[task](world.shot(number), random)
                options = tuple(random.permutation(list(shots)).tolist())
                for answer in options:
                    clip = film(shots[answer], noise=self.world.noise, seed=number)
                    group = f"{task} {number}"
                    items.append(
                        Item(
                            clip=clip,
                            question=question,
                            options=options,
                            answer=answer,
                            aspect=task,
                            group=group,
                            telling=1.0,
                        )
                    )
                made += len(options)
                number += 1
        return items

    @classmethod
    def examples(cls) -> Sequence["Choices"]:
        return [cls(), cls(per_task=24, tasks=("moving direction", "action antonym"))]
