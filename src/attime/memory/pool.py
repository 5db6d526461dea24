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

    @property
    @abstractmethod
    def count(self) -> int:
        """How many records are in it."""

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
        return _Branch((self,))


@final
class _Branch(Pool):
    """The records of pools that may go on growing, each under numbers that those before it never reach, and its own behind."""

    def __init__(self, stems: tuple[Pool, ...]) -> None:
        self.where, self._stems, self._own = stems[0].where, stems, None

    @property
    def count(self) -> int:
        return sum(pool.count for pool in self._pools)

    def share(self, records: int) -> int:
        whole = 0
        for pool in reversed(self._pools):
            own = min(records, pool.count)
            whole, records = whole + pool.share(own), records - own
        return whole

    def add(self, records: Shaped[Tensor, "new width"]) -> Int[Tensor, " new"]:
        if self._own is None:
            where: Any = self.where
            self._own = where.open(records[:0])
        return self._own.add(records) + FAR * len(self._stems)

    def read(self, numbers: Int[Tensor, "*records"]) -> Records:
        pools = self._pools
        if len(pools) == 1:
            return pools[0].read(numbers)
        which, found = numbers // FAR, None
        for number in which.unique().tolist():
            here = which == number
            part = pools[number].read(numbers[here] - FAR * number)
            found = part.new_empty(*numbers.shape, part.shape[-1]) if found is None else found
            found[here] = part
        return pools[0].read(numbers) if found is None else found

    def branch(self) -> "_Branch":
        return _Branch(self._pools)

    @property
    def _pools(self) -> tuple[Pool, ...]:
        return self._stems if self._own is None else (*self._stems, self._own)
