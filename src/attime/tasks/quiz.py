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

__all__ = ["Clip", "Item", "Observer", "Quiz", "one_frame", "shuffled"]

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

    def __post_init__(self) -> None:
        if self.answer not in self.options:
            raise AttimeError(f"an item needs its answer among its options {self.options}; got {self.answer!r}.")


Observer = Callable[[Item], str]
"""From an item to one of its options. Only an oracle reads `answer`."""


class Quiz(Part):
    """A frozen, keyword-only dataclass that makes items on the world; the protocol is the object."""

    traits: ClassVar[Traits] = Traits(batches=False, asks=True)

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
        right: dict[str, list[bool]] = defaultdict(list)
        for item in items:
            said = observer(item)
            right["accuracy"].append(said == item.answer)
            right[item.aspect].append(said == item.answer)
        return {name: float(np.mean(each)) for name, each in right.items()}

    def chance(self, *, seed: int = 0) -> Mapping[str, float]:
        """The expected scores of somebody who guesses evenly among the options."""
        shares: dict[str, list[float]] = defaultdict(list)
        for item in self.items(seed=seed):
            shares["accuracy"].append(1 / len(item.options))
            shares[item.aspect].append(1 / len(item.options))
        return {name: float(np.mean(each)) for name, each in shares.items()}


def one_frame(observer: Observer, *, place: float = 0.5) -> Observer:
    """The observer, who sees one frame of every clip over and over; `place` 0 is the first, 1 the last."""

    def seen(frames: Frames) -> Frames:
        return np.repeat(frames[[round(place * (len(frames) - 1))]], len(frames), axis=0)

    return _through(observer, seen)


def shuffled(observer: Observer, *, seed: int = 0) -> Observer:
    """The observer, who sees the frames of every clip in random order."""
    random = np.random.default_rng(seed)
    return _through(observer, lambda frames: frames[random.permutation(len(frames))])


def _through(observer: Observer, change: Callable[[Frames], Frames]) -> Observer:
    def observe(item: Item) -> str:
        clip = replace(item.clip, source=lambda: change(item.clip.frames))
        return observer(replace(item, clip=clip))

    return observe
