r"""A place on disk for what is parked: one file per layer and rows that share their time, written at its end only, read a block at a time.

    offset of record i = i * width;  records that lie side by side come in one read, each to its own place

Source:  disk as the outermost place of ReKV, arXiv 2503.00540, sec. 3.2; layout ours.
Cost:    nothing in memory but record numbers; a read of a warm page costs a copy.
Differs: positioned reads and not a memory map: pages of a map count as the process's own, and a file that was cut short
         ends the process instead of raising.
"""

import errno
import os
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from attime.errors import AttimeError
from attime.memory.pool import Pool
from attime.memory.retrieve.contract import Where

__all__ = ["OnDisk"]

MOST = 1000  # buffers that one read may fill


@final
@dataclass(frozen=True, kw_only=True)
class OnDisk(Where):
    """Files in a folder, gone when the past is (see the module docstring). None: the system's folder for such files."""

    path: str | None = None

    def open(self, like: Shaped[Tensor, "any width"]) -> Pool:
        return _File(self, like)

    @classmethod
    def examples(cls) -> Sequence["OnDisk"]:
        return [cls(), cls(path=tempfile.gettempdir())]


@final
class _File(Pool):
    def __init__(self, where: OnDisk, like: Tensor) -> None:
        self.where = where
        self._dtype, self._device = like.dtype, like.device
        self._width = like.shape[1] * like.element_size()
        self._count = 0
        try:
            self._file, name = tempfile.mkstemp(prefix="attime-", suffix=".blocks", dir=where.path)
        except OSError as error:
            full = error.errno in (errno.EMFILE, errno.ENFILE)
            what = "a file for every layer and for rows padded apart" if full else "a folder that can be written to"
            then = "allow more open files, or park in memory" if full else "give another path"
            raise AttimeError(f"OnDisk needs {what}; {where.path}: {error.strerror}: {then}.") from None
        self.path = Path(name)
        self._finish = weakref.finalize(self, _remove, self._file, name)

    @property
    def count(self) -> int:
        return self._count

    def share(self, records: int) -> int:
        return 0

    def add(self, records: Shaped[Tensor, "new width"]) -> Int[Tensor, " new"]:
        numbers: Any = records.detach().cpu().contiguous().view(torch.uint8).numpy()
        left = memoryview(numbers).cast("B")
        at = self._count * self._width
        while len(left):
            written = os.pwrite(self._file, left, at)
            if not written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            left, at = left[written:], at + written
        first, self._count = self._count, self._count + len(records)
        return torch.arange(first, self._count, device=records.device)

    def read(self, numbers: Int[Tensor, "*records"]) -> Shaped[Tensor, "*records width"]:
        order = numbers.flatten().cpu().sort()
        sorted_, places = order.values.tolist(), order.indices.tolist()
        found = torch.empty(len(sorted_), self._width, dtype=torch.uint8)
        rows, start = found.numpy(), 0
        while start < len(sorted_):
            stop = start + 1
            while stop < len(sorted_) and stop - start < MOST and sorted_[stop] == sorted_[stop - 1] + 1:
                stop += 1
            buffers: list[Any] = [rows[place] for place in places[start:stop]]
            if os.preadv(self._file, buffers, sorted_[start] * self._width) != len(buffers) * self._width:
                raise AttimeError(
                    f"{self.path} has lost what was parked in it: leave the file alone while it is in use."
                )
            start = stop
        return found.view(self._dtype).unflatten(0, numbers.shape).to(self._device)


def _remove(file: int, name: str) -> None:
    os.close(file)
    Path(name).unlink(missing_ok=True)
