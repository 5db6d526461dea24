r"""Levels of ever coarser frames: what is recent is dense, what was redundant becomes coarse, what was distinct stays longer.

A new frame enters level 0. A full level first gives away the earlier frame of its most similar neighbours in time,

    argmax_i cos(m_i, m_{i+1}),    m_i the mean of frame i over its cells,

which becomes as coarse as the next level and enters that in the same way; the last level drops it.

Source:  VideoChat-Online (pyramid memory bank), arXiv 2501.00584, sec. 4.1.
Names:   `frames` are the capacities, `cells` the sides of the grids (16, 8, 4: 256, 64 and 16 tokens).
Cost:    per frame a cosine of the means for each pair of each full level.
Differs: a level stands in order of time, and frames go down level by level to the last; in the released code they are
         appended to the next level in the order in which they leave, and what leaves the second level is dropped, so that
         the third stays empty. Means are taken once, when a frame comes.
"""

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from attime.attention.state import state_dtype
from attime.errors import AttimeError
from attime.memory.banks.coarser import area, coarser
from attime.memory.banks.contract import Entry, FrameBank, Parts

__all__ = ["FramePyramid", "most_alike"]


@final
@dataclass(frozen=True, kw_only=True)
class FramePyramid(FrameBank):
    """So many frames on each level, on grids of at most `cells` along each side (see the module docstring)."""

    frames: tuple[int, ...] = (64, 64, 64)
    cells: tuple[int, ...] = (16, 8, 4)

    def __post_init__(self) -> None:
        falls = all(fine >= coarse for fine, coarse in zip(self.cells, self.cells[1:], strict=False))
        if not self.frames or len(self.frames) != len(self.cells) or min(*self.frames, *self.cells) < 1 or not falls:
            raise AttimeError(
                f"FramePyramid needs one number of frames >= 1 and of cells >= 1 for each level, cells never rising; got "
                f"frames={self.frames}, cells={self.cells}."
            )

    def take(self, parts: Parts, new: Entry) -> Parts:
        mean = new.frame.to(state_dtype(new.frame.dtype)).mean((0, 1))
        levels = {name: list(entries) for name, entries in parts.items()}
        self._enter(levels, 0, replace(new, key=F.normalize(mean, dim=0)))
        return {name: tuple(entries) for name, entries in levels.items()}

    def _enter(self, levels: dict[str, list[Entry]], number: int, entry: Entry) -> None:
        level = levels.setdefault(f"level{number}", [])
        if len(level) == self.frames[number]:
            leaving = level.pop(most_alike([_key(each) for each in level]))
            if number + 1 < len(self.frames):
                self._enter(levels, number + 1, leaving)
        insort(level, replace(entry, frame=coarser(entry.frame, self.cells[number])), key=lambda each: each.number)

    def budget(self, height: int, width: int) -> int:
        return sum(count * area(height, width, cells) for count, cells in zip(self.frames, self.cells, strict=True))

    @classmethod
    def examples(cls) -> Sequence["FramePyramid"]:
        return [cls(frames=(3, 2, 4), cells=(4, 2, 1)), cls(frames=(1, 3), cells=(3, 3))]


def most_alike(keys: Sequence[Tensor]) -> int:
    """Place of the earlier of the two neighbours that are most similar, given vectors of length one; 0 if there is one."""
    if len(keys) < 2:
        return 0
    stacked = torch.stack(list(keys))
    return int((stacked[1:] * stacked[:-1]).sum(-1).argmax())


def _key(entry: Entry) -> Tensor:
    assert entry.key is not None
    return entry.key
