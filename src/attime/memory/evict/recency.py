"""The latest entries stay: with sinks, the sliding window that every other score is measured by.

score_i = i
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from attime.memory.evict.contract import Rates, Score
from attime.memory.past import Past

__all__ = ["Recency"]


@final
@dataclass(frozen=True, kw_only=True)
class Recency(Score):
    """Keeps the latest entries."""

    def rate(self, past: Past) -> Rates:
        return [bank.when.now.double() for bank in past.banks]

    @classmethod
    def examples(cls) -> Sequence["Recency"]:
        return [cls()]
