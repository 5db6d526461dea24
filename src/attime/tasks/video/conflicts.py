"""Conflicting clips: pairs that look the same in single frames, so that only who perceives time can answer both.

A clip and its twin show the same things, and the same picture in the middle, but one is played backwards (direction,
order, action, change) or faster (speed); or a slow and a fast version are joined, side by side (relative speed) or one
after the other (changing speed). The same question, asked of both, has another answer each time, in four forms.

Source:  TempCompass, arXiv 2403.00476, sections 3.1 (aspects), 3.2 (conflicting videos) and 3.3 (forms).
Differs: two options where multiple choice there has three or four; so one frame gives exactly chance. Captions are chosen
         from two, and free text counts as the one that it stands for (`free_answers`), where a language model judges there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final

import numpy as np

from attime.errors import AttimeError
from attime.streams.world import World
from attime.tasks.contract import Traits
from attime.tasks.quiz import Item, Quiz
from attime.tasks.video.stage import HELD_OUT, STAGE
from attime.tasks.video.twins import TWINS, Conflict

__all__ = ["ConflictingClips"]

FORMS = ("multiple choice", "yes or no", "caption matching", "captioning")
LIVELY = replace(STAGE, name="lively", kinds=(*STAGE.kinds, "turn", "grow", "shrink", "pan"))
TRIES = 300  # shots that are looked at for each pair before it is said that there are too few


@final
@dataclass(frozen=True, kw_only=True)
class ConflictingClips(Quiz):
    """Pairs of conflicting clips of the world (see the module docstring).

    Scores: `accuracy`, that of each aspect, of each form and of both, and `pairs`, the share of pairs in which every
    item of a form is answered rightly. AttimeError if nothing in this world makes pairs of an aspect.
    """

    traits: ClassVar[Traits] = Traits(batches=False, asks=True, conflicting=True)
    group_score: ClassVar[str] = "pairs"

    pairs: int = 10
    """Pairs of each aspect."""
    aspects: tuple[str, ...] = tuple(TWINS)
    forms: tuple[str, ...] = FORMS
    world: World = LIVELY

    def __post_init__(self) -> None:
        unknown = (set(self.aspects) - set(TWINS)) | (set(self.forms) - set(FORMS))
        if unknown or self.pairs < 1 or not self.aspects or not self.forms:
            raise AttimeError(
                f"ConflictingClips needs a pair or more, aspects among {', '.join(TWINS)} and forms among "
                f"{', '.join(FORMS)}; got pairs={self.pairs}, aspects={self.aspects}, forms={self.forms}."
            )

    @property
    def protocol(self) -> str:
        return f"conflicting-clips/{self.world.name}/{len(self.aspects)}x{self.pairs}"

    def items(self, *, seed: int = 0) -> Sequence[Item]:
        return [item for aspect in self.aspects for item in self._of(aspect, seed)]

    def labels(self, item: Item) -> Sequence[str]:
        return ("accuracy", item.aspect, item.form, f"{item.aspect}, {item.form}")

    def _of(self, aspect: str, seed: int) -> Iterator[Item]:
        world = replace(self.world, seed=HELD_OUT + seed)
        random = np.random.default_rng([HELD_OUT + seed, list(TWINS).index(aspect)])
        found = 0
        for number in range(TRIES * self.pairs):
            conflicts = TWINS[aspect](world.shot(number), world.noise)
            if conflicts:
                conflict = conflicts[int(random.integers(len(conflicts)))]
                for form in self.forms:
                    yield from _asked(conflict, aspect, form, f"{aspect} {found}, {form}", random)
                found += 1
            if found == self.pairs:
                return
        raise AttimeError(
            f"{self.world.name} gives {found} pairs of {aspect} in {TRIES * self.pairs} shots, {self.pairs} are needed: let more kinds "
            "of events happen in it."
        )

    @classmethod
    def examples(cls) -> Sequence["ConflictingClips"]:
        return [cls(pairs=2), cls(pairs=6, aspects=("direction", "speed"), forms=("multiple choice",), world=STAGE)]


def _asked(conflict: Conflict, aspect: str, form: str, group: str, random: np.random.Generator) -> Iterator[Item]:
    """Every question of this form, asked of both clips."""
    if form == "yes or no":
        asked = [
            (claim, [("no", "yes")[place == right] for place in (0, 1)]) for right, claim in enumerate(conflict.claims)
        ]
    elif form == "multiple choice":
        asked = [(conflict.question, list(conflict.answers))]
    else:
        told = [conflict.captions[place] for place in random.permutation(2)]
        matching = f"which is it : {told[0]} or {told[1]} ?"
        asked = [(matching if form == "caption matching" else "what happens ?", list(conflict.captions))]
    for question, answers in asked:
        options = tuple(answers[place] for place in random.permutation(2))
        for clip, answer in zip(conflict.clips, answers, strict=True):
            yield Item(
                clip=clip, question=question, options=options, answer=answer, aspect=aspect, form=form, group=group
            )
