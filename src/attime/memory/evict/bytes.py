"""A budget in bytes: what the past of one row may hold in all layers and heads together, the evidence of scores included."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from attime.memory.evict.contract import Budget
from attime.memory.past import Past

__all__ = ["Bytes"]


@final
@dataclass(frozen=True, kw_only=True)
class Bytes(Budget):
    """`total` bytes for each row (each conversation) of a batch; exact entries are counted, so other formats hold fewer bytes."""

    total: int = 2**26

    @property
    def smallest(self) -> None:
        return None

    def limit(self, past: Past) -> int:
        bank = past.banks[0]
        stored = (bank.exact.keys(), bank.exact.values(), *(each.now for each in bank.known.values()))
        entry = sum(each.element_size() * each.shape[2:].numel() for each in stored)
        queries = 0 if past.queries is None else past.queries.nbytes // past.lanes
        return (self.total // (past.layers * past.heads) - queries) // entry

    @classmethod
    def examples(cls) -> Sequence["Bytes"]:
        return [cls(total=16000)]
