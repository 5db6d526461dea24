"""Fewer entries from layer to layer: attention that is broad in the lower layers gathers on few tokens in the upper ones.

    entries of layer l of L = first + (last - first) l / (L - 1)

Source:  PyramidKV, arXiv 2406.02069, sec. 4: an arithmetic sequence over the layers.
Names:   with their beta, last = mean / beta and first = 2 mean - last.
Differs: of the whole budget, sinks and recent tokens included.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from attime.memory.contract import Traits
from attime.memory.evict.contract import Budget
from attime.memory.past import Past

__all__ = ["Pyramid"]


@final
@dataclass(frozen=True, kw_only=True)
class Pyramid(Budget):
    """So many entries per head in the first layer, evenly down (or up) to so many in the last."""

    traits: ClassVar[Traits] = Traits(acts=False, bounded=True)
    first: int = 1848
    last: int = 200

    def __int__(self) -> int:
        return max(self.first, self.last)

    @property
    def smallest(self) -> int:
        return min(self.first, self.last)

    def limit(self, past: Past) -> int:
        return round(self.first + (self.last - self.first) * past.layer / max(1, past.layers - 1))

    @classmethod
    def examples(cls) -> Sequence["Pyramid"]:
        return [cls(first=16, last=10)]
