"""A number of entries for each layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from attime.errors import AttimeError
from attime.memory.contract import Traits
from attime.memory.evict.contract import Budget
from attime.memory.past import Past

__all__ = ["PerLayer"]


@final
@dataclass(frozen=True, kw_only=True)
class PerLayer(Budget):
    """So many entries per head in the first layer, so many in the second, and so on."""

    traits: ClassVar[Traits] = Traits(acts=False, bounded=True)
    entries: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.entries:
            raise AttimeError("PerLayer needs one number of entries for each layer; got none.")

    def __int__(self) -> int:
        return max(self.entries)

    @property
    def smallest(self) -> int:
        return min(self.entries)

    def limit(self, past: Past) -> int:
        if len(self.entries) != past.layers:
            raise AttimeError(
                f"PerLayer has {len(self.entries)} budgets and the model {past.layers} layers: give one for each layer."
            )
        return self.entries[past.layer]

    @classmethod
    def examples(cls) -> Sequence["PerLayer"]:
        return [cls(entries=(16, 12))]
