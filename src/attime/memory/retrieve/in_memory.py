"""The place for what is parked that is nearest: the memory of the device that the model is on.

Source:  ReKV, arXiv 2503.00540, sec. 3.2, with the CPU's memory for a model that is there.
Cost:    the bytes of all that is parked, and at most a quarter more to grow into.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from attime.memory.buffer import Buffer
from attime.memory.pool import Pool
from attime.memory.retrieve.contract import Where

__all__ = ["InMemory"]


@final
@dataclass(frozen=True, kw_only=True)
class InMemory(Where):
    """In memory, shared by all copies of a past (see the module docstring)."""

    def open(self, like: Shaped[Tensor, "any width"]) -> Pool:
        return _Held(self, like)

    @classmethod
    def examples(cls) -> Sequence["InMemory"]:
        return [cls()]


@final
class _Held(Pool):
    def __init__(self, where: InMemory, like: Tensor) -> None:
        self.where = where
        self._records = Buffer(like[None, :0])

    @property
    def count(self) -> int:
        return self._records.length

    def share(self, records: int) -> int:
        return self._records.nbytes * records // max(1, self._records.length)

    def add(self, records: Shaped[Tensor, "new width"]) -> Int[Tensor, " new"]:
        first = self._records.length
        self._records.append(records[None])
        return torch.arange(first, self._records.length, device=records.device)

    def read(self, numbers: Int[Tensor, "*records"]) -> Shaped[Tensor, "*records width"]:
        return self._records.now[0].index_select(0, numbers.flatten()).unflatten(0, numbers.shape)
