"""Several banks over the same frames, read as one: the latest in fine, the rest as clusters, a gist of everything.

Source:  Flash-VStream (its memory of four kinds), arXiv 2406.08085, sec. 3.2.
Cost:    those of the banks.
Differs: all entries stand in order of time; the paper puts one kind after the other.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import final

from torch import nn

from attime.errors import AttimeError
from attime.memory.banks.clusters import FrameClusters
from attime.memory.banks.contract import Entry, FrameBank, Kept, Parts
from attime.memory.banks.latest import Latest
from attime.memory.banks.semantic_slots import SemanticSlots
from attime.memory.contract import Traits

__all__ = ["Together"]


@final
class Together(FrameBank, nn.Module):
    """`Together(Latest(frames=1), FrameClusters(), SemanticSlots(1024))`.

    Where a bank's weights add up to the frames seen, the first such bank counts, and the others' entries weigh nothing.
    """

    def __init__(self, *banks: FrameBank) -> None:
        super().__init__()
        if not banks or not all(isinstance(bank, FrameBank) for bank in banks):
            raise AttimeError(f"Together needs banks such as Latest(frames=1) and FrameClusters(); got {banks}.")
        self.banks = banks
        self.learning = nn.ModuleList([bank for bank in banks if isinstance(bank, nn.Module)])

    def evidence(self) -> Traits:
        return replace(self.traits, merges=self._counting is not None)

    @property
    def _counting(self) -> int | None:
        return next((place for place, bank in enumerate(self.banks) if bank.evidence().merges), None)

    def take(self, parts: Parts, new: Entry) -> Parts:
        return {
            f"{place}.{name}": entries
            for place, bank in enumerate(self.banks)
            for name, entries in bank.take(_own(parts, place), new).items()
        }

    def shown(self, kept: Kept) -> Iterable[Entry]:
        return list(self._shown(kept))

    def _shown(self, kept: Kept) -> Iterator[Entry]:
        counting = self._counting
        for place, bank in enumerate(self.banks):
            silent = counting not in (None, place)
            for entry in bank.shown(replace(kept, parts=_own(kept.parts, place))):
                yield replace(entry, weight=0.0) if silent else entry

    def budget(self, height: int, width: int) -> int:
        return sum(bank.budget(height, width) for bank in self.banks)

    @classmethod
    def examples(cls) -> Sequence["Together"]:
        clusters = FrameClusters(count=4, cells=2, shown_fine=1, fine=4)
        return [cls(Latest(frames=1, cells=3), clusters, SemanticSlots(8, slots=3, hidden=4)), cls(Latest(frames=2))]


def _own(parts: Parts, place: int) -> Parts:
    start = f"{place}."
    return {name.removeprefix(start): entries for name, entries in parts.items() if name.startswith(start)}
