"""Records that are written once and read by number: where blocks of a past wait that are not attended now."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, final

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from attime.part import Part

__all__ = ["Pool"]

Records = Shaped[Tensor, "*records width"]
FAR = 1 << 40  # more records than a pool ever has
PART = 1024  # records that are moved at a time where all of them are


class Pool(ABC):
    """Records of equal width, by numbers that rise. What is in it never changes, so copies of a past share it."""

    where: Part
    """The place that made it: its `open` makes another."""

    @abstractmethod
    def share(self, records: int) -> int:
        """Bytes in memory of so many of its records, spare room included."""

    @abstractmethod
    def add(self, records: Shaped[Tensor, "new width"]) -> Int[Tensor, " new"]:
        """Write records behind the last; their numbers. OSError where there is no room: then nothing has changed."""

    @abstractmethod
    def read(self, numbers: Int[Tensor, "*records"]) -> Records:
        """The records of these numbers."""

    def parts(self, numbers: Int[Tensor, " records"]) -> Iterator[Records]:
        """The records of these numbers, some at a time."""
        return (self.read(each) for each in numbers.split(PART))

    def anew(self, numbers: Int[Tensor, "*records"]) -> tuple["Pool", Int[Tensor, "*records"]]:
        """A pool of these records only, and their numbers in it."""
        where: Any = self.where
        pool: Pool = where.open(self.read(numbers.flatten()[:1])[:0])
        made = [pool.add(part) for part in self.parts(numbers.flatten())]
        return pool, torch.cat([numbers.flatten()[:0], *made]).view(numbers.shape)

    def branch(self) -> "Pool":
        """A pool that has these records too; what is added to it goes when it goes."""
        return _Branch(self)


@final
class _Branch(Pool):
    """The records of a pool that may go on growing, and records of its own under numbers that the pool never reaches."""

    def __init__(self, stem: Pool) -> None:
        self.where, self._stem, self._own = stem.where, stem, None
        self._first = FAR + (stem._first if isinstance(stem, _Branch) else 0)
        self._added = 0

    def share(self, records: int) -> int:
        own = min(records, self._added)
        return self._stem.share(records - own) + (0 if self._own is None else self._own.share(own))

    def add(self, records: Shaped[Tensor, "new width"]) -> Int[Tensor, " new"]:
        if self._own is None:
            where: Any = self.where
            self._own = where.open(records[:0])
        numbers = self._own.add(records) + self._first
        self._added += len(records)
        return numbers

    def read(self, numbers: Int[Tensor, "*records"]) -> Records:
        own = numbers >= self._first
        if self._own is None or not bool(own.any()):
            return self._stem.read(numbers)
        mine = self._own.read(numbers[own] - self._first)
        found = mine.new_empty(*numbers.shape, mine.shape[-1])
        found[own], found[~own] = mine, self._stem.read(numbers[~own])
        return found
