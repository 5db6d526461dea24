"""The latest frames, first in, first out: what every other bank is measured by.

Cost:    nothing but the frame itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

from attime.errors import AttimeError
from attime.memory.banks.coarser import area, coarser
from attime.memory.banks.contract import Entry, FrameBank, Parts

__all__ = ["Latest"]


@final
@dataclass(frozen=True, kw_only=True)
class Latest(FrameBank):
    """The last `frames` frames, on a grid of at most `cells` along each side."""

    frames: int = 16
    cells: int | None = None

    def __post_init__(self) -> None:
        if self.frames < 1 or (self.cells is not None and self.cells < 1):
            raise AttimeError(
                f"Latest needs frames >= 1 and cells >= 1 or None; got frames={self.frames}, cells={self.cells}."
            )

    def take(self, parts: Parts, new: Entry) -> Parts:
        new = replace(new, frame=coarser(new.frame, self.cells))
        return {"latest": (*parts.get("latest", ()), new)[-self.frames :]}

    def budget(self, height: int, width: int) -> int:
        return self.frames * area(height, width, self.cells)

    @classmethod
    def examples(cls) -> Sequence["Latest"]:
        return [cls(frames=3), cls(frames=4, cells=2)]
