"""What a quiz is: clips with questions, an answer to each, scores by aspect, and controls that blind the observer to time."""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attime.errors import AttimeError
from attime.part import Part
from attime.tasks.contract import Traits

__all__ = ["Clip", "Item", "Observer", "Quiz", "best_scored", "guesser", "one_frame", "oracle", "shuffled"]

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Clip:
    """A clip that is made or decoded when its frames are first asked for."""

    source: Callable[[], Frames]
    seconds_per_frame: float = 0.25

    @cached_property
    def frames(self) -> Frames:
        """(time, height, width, 3)"""
        return self.source()


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question about one clip."""

    clip: Clip = field(repr=False, compare=False)
    question: str
    options: tuple[str, ...]
    answer: str
    aspect: str
    """What it takes to answer: direction, speed, order, ..."""
    form: str = "multiple choice"
    """How it is asked."""
    group: str = ""
    """Items of one group count together where the quiz says so."""
    asked_s: float | None = None
    """When it is asked, in a stream: nothing later may be looked at."""
    telling: float = 0.5
    """Where in the clip the frame is that tells most, for those who see one frame: 0 is the first, 1 the last."""

    def __post_init__(self) -> None:
        if self.answer not in self.options:
            raise AttimeError(f"an item needs its answer among its options {self.options}; got {self.answer!r}.")


Observer = Callable[[Item], str | None]
"""From an item to one of its options; None, or anything else, is wrong. Only an oracle reads `answer`."""


class Quiz(Part):
    """A frozen, keyword-only dataclass that makes items on the world; the protocol is the object."""

    traits: ClassVar[Traits] = Traits(batches=False, asks=True)
    group_score: ClassVar[str] = ""
    """Name of the share of groups of which every item is answered rightly; empty if groups do not count."""

    @property
    @abstractmethod
    def protocol(self) -> str:
        """The name under which results are comparable."""

    @abstractmethod
    def items(self, *, seed: int = 0) -> Sequence[Item]:
        """All items, the same for the same seed."""

    def score(self, observer: Observer, *, seed: int = 0) -> dict[str, float]:
        """`accuracy`, and the accuracy of each aspect, each 0 to 1."""
        return self.grade(self.items(seed=seed), observer)

    def grade(self, items: Sequence[Item], observer: Observer) -> dict[str, float]:
        """The scores of an observer on any items of this kind, such as those of a benchmark's own files."""
        if not items:
            raise AttimeError(f"{self.protocol} needs at least one item; got none.")
        return self._totals(items, [float(observer(item) == item.answer) for item in items])

    def chance(self, *, seed: int = 0) -> Mapping[str, float]:
        """The expected scores of somebody who guesses evenly among the options."""
        items = self.items(seed=seed)
        return self._totals(items, [1 / len(item.options) for item in items])

    def labels(self, item: Item) -> Sequence[str]:
        """The names of the scores in which an item counts."""
        return ("accuracy", item.aspect)

    def _totals(self, items: Sequence[Item], shares: Sequence[float]) -> dict[str, float]:
        labels: dict[str, list[float]] = defaultdict(list)
        groups: dict[str, float] = defaultdict(lambda: 1.0)
        for item, share in zip(items, shares, strict=True):
            groups[item.group] *= share
            for name in self.labels(item):
                labels[name].append(share)
        scores = {name: float(np.mean(each)) for name, each in labels.items()}
        return {**scores, self.group_score: float(np.mean(list(groups.values())))} if self.group_score else scores


def oracle(item: Item) -> str:
    """The observer who knows the answer."""
    return item.answer


def guesser(seed: int = 0) -> Observer:
    """The observer who looks at nothing and says any of the options."""
    random = np.random.default_rng(seed)
    return lambda item: item.options[int(random.integers(len(item.options)))]


def best_scored(score: Callable[[Frames, str, Sequence[str]], Sequence[float]]) -> Observer:
    """The observer who says the option with the highest score; `score` gets frames, question and options."""
    return lambda item: item.options[int(np.argmax(score(item.clip.frames, item.question, item.options)))]


def one_frame(observer: Observer, *, place: float | None = 0.5) -> Observer:
    """The observer, who sees one frame of every clip over and over.

    `place` 0 is the first and 1 the last; of an even number of frames 0.5 is the first of the second half, which in a
    clip that begins at 0 is the one of its middle moment. None is where the item says that most is told.
    """

    def seen(item: Item, frames: Frames) -> Frames:
        chosen = item.telling if place is None else place
        return np.repeat(frames[[int(chosen * (len(frames) - 1) + 0.5)]], len(frames), axis=0)

    return _through(observer, seen)


def shuffled(observer: Observer, *, seed: int = 0) -> Observer:
    """The observer, who sees the frames of every clip in random order."""
    random = np.random.default_rng(seed)
    return _through(observer, lambda _, frames: frames[random.permutation(len(frames))])


def _through(observer: Observer, change: Callable[[Item, Frames], Frames]) -> Observer:
    def observe(item: Item) -> str | None:
        clip = replace(item.clip, source=lambda: change(item, item.clip.frames))
        return observer(replace(item, clip=clip))

    return observe
