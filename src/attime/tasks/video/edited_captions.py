"""Captions of which one detail in time was edited: an item counts only if the true caption wins against every edit.

Several edits of one caption, offered together, give the true one away: it differs from each of them by one edit, while
they differ from each other by two (`central_caption` reads no more than that). So every edit makes a question with two
options, and a clip counts only if all of its questions are answered rightly: multiple binary accuracy.

Source:  TemporalBench, arXiv 2410.10818, sections 3.2 (edits) and 3.3 (multiple binary accuracy), and its scoring code.
Differs: captions are the world's, so an edit is wrong by construction and nobody has to check it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final

import numpy as np

from attime.errors import AttimeError
from attime.streams.world import World
from attime.tasks.quiz import Item, Quiz
from attime.tasks.video.edits import EDITS, acts, edited, told
from attime.tasks.video.stage import HELD_OUT, STAGE, film

__all__ = ["EditedCaptions", "central_caption"]

TRIES = 200  # shots that are looked at for each clip before it is said that there are too few


@final
@dataclass(frozen=True, kw_only=True)
class EditedCaptions(Quiz):
    """A true caption against its edits, one at a time or, with `together`, all at once (see the module docstring).

    `multiple binary accuracy` is the share of clips of which every question is answered rightly; the aspects are what was
    edited.
    """

    group_score: ClassVar[str] = "multiple binary accuracy"

    clips: int = 40
    edits: int = 4
    """Edits of each caption."""
    together: bool = False
    world: World = STAGE

    def __post_init__(self) -> None:
        if self.clips < 1 or not 1 <= self.edits <= len(EDITS):
            raise AttimeError(
                f"EditedCaptions needs a clip or more and 1 to {len(EDITS)} edits; got clips={self.clips}, edits={self.edits}."
            )

    @property
    def protocol(self) -> str:
        return f"edited-captions/{self.world.name}/{self.clips}x{self.edits}{'/together' if self.together else ''}"

    def items(self, *, seed: int = 0) -> Sequence[Item]:
        world = replace(self.world, seed=HELD_OUT + seed)
        random = np.random.default_rng(HELD_OUT + seed)
        items: list[Item] = []
        done = 0
        for number in range(TRIES * self.clips):
            shot = world.shot(number)
            true = acts(shot)
            wrong = edited(shot, true, random, possible=world.kinds)
            if len(wrong) >= self.edits:
                chosen = random.permutation(list(wrong))[: self.edits].tolist()
                clip = film(shot, noise=world.noise, seed=number)
                answer, others = told(true), {kind: told(wrong[kind]) for kind in chosen}
                for kind in ["several details"] if self.together else chosen:
                    options = [answer, *others.values()] if self.together else [answer, others[kind]]
                    items.append(
                        Item(
                            clip=clip,
                            question="which is it ?",
                            options=tuple(random.permutation(options).tolist()),
                            answer=answer,
                            aspect=kind,
                            form="multiple choice" if self.together else "one of two",
                            group=f"clip {number}",
                        )
                    )
                done += 1
            if done == self.clips:
                return items
        raise AttimeError(
            f"{self.world.name} gives {done} clips with {self.edits} edits in {TRIES * self.clips} shots, {self.clips} are "
            "needed: let more kinds of events happen in it, or ask for fewer edits."
        )

    @classmethod
    def examples(cls) -> Sequence["EditedCaptions"]:
        return [cls(clips=10), cls(clips=20, edits=2, together=True)]


def central_caption(item: Item) -> str:
    """The observer who sees nothing and says the caption with the fewest changed words to all others, or the first of them."""
    texts = [option.split() for option in item.options]
    return item.options[int(np.argmin([sum(_distance(one, other) for other in texts) for one in texts]))]


def _distance(one: Sequence[str], other: Sequence[str]) -> int:
    """Fewest words to put in, take out or replace to get from one text to the other."""
    row = list(range(len(other) + 1))
    for number, word in enumerate(one, start=1):
        before, row[0] = row[0], number
        for place, rival in enumerate(other, start=1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (word != rival))
    return row[-1]
