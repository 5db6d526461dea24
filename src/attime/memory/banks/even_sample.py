r"""Frames at even distances over the whole stream so far: uniform sampling, for a stream whose end nobody knows.

One frame too many: of all inner frames the one goes whose neighbours are nearest to each other, the earliest such.

Source:  the usual baseline of video-language models (a fixed number of frames, uniformly sampled), kept while it streams.
Cost:    a comparison per frame held.
Differs: gaps differ by a factor of about two; the first frame and the latest are always there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

from attime.errors import AttimeError
from attime.memory.banks.coarser import area, coarser
from attime.memory.banks.contract import Entry, FrameBank, Parts

__all__ = ["EvenSample", "thinned"]


@final
@dataclass(frozen=True, kw_only=True)
class EvenSample(FrameBank):
    """`frames` frames spread evenly, on a grid of at most `cells` along each side (see the module docstring)."""

    frames: int = 16
    cells: int | None = None

    def __post_init__(self) -> None:
        if self.frames < 2 or (self.cells is not None and self.cells < 1):
            raise AttimeError(
                f"EvenSample needs frames >= 2 and cells >= 1 or None; got frames={self.frames}, cells={self.cells}."
            )

    def take(self, parts: Parts, new: Entry) -> Parts:
        new = replace(new, frame=coarser(new.frame, self.cells))
        return {"even": thinned((*parts.get("even", ()), new), self.frames)}

    def budget(self, height: int, width: int) -> int:
        return self.frames * area(height, width, self.cells)

    @classmethod
    def examples(cls) -> Sequence["EvenSample"]:
        return [cls(frames=3), cls(frames=5, cells=2)]


def thinned(entries: tuple[Entry, ...], most: int) -> tuple[Entry, ...]:
    """The same, less the entry that leaves the smallest gap where it is one too many."""
    if len(entries) <= most:
        return entries
    numbers = [entry.number for entry in entries]
    gaps = [after - before for before, after in zip(numbers, numbers[2:], strict=False)]
    out = 1 + gaps.index(min(gaps))
    return entries[:out] + entries[out + 1 :]
