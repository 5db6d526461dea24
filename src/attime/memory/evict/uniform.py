"""The same number of entries for every head of every layer: what a plain number as a budget means."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from attime.memory.contract import Traits
from attime.memory.evict.contract import Budget
from attime.memory.past import Past

__all__ = ["Uniform"]


@final
@dataclass(frozen=True, kw_only=True)
class Uniform(Budget):
    """So many entries per head."""

    traits: ClassVar[Traits] = Traits(acts=False, bounded=True)
    entries: int = 1024

    def __int__(self) -> int:
        return self.entries

    @property
    def smallest(self) -> int:
        return self.entries

    def limit(self, past: Past) -> int:
        return self.entries

    @classmethod
    def examples(cls) -> Sequence["Uniform"]:
        return [cls(entries=16)]
