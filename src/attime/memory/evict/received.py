"""Entries that have had much attention so far will have more: the heavy hitters stay.

    score_i = sum over queries t >= i of attention(t, i),   optionally divided by the number of queries that could see i

Source:  H2O, arXiv 2306.14048, sec. 4.1 (the sum).
Names:   `per_query` is the mean that kvpress calls observed attention; the sum favours what has been there for long.
Cost:    the maps are formed between two ticks only, never at once; fused attention is not used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from attime.memory.contract import Traits
from attime.memory.evict.contract import Rates, Score
from attime.memory.past import Past

__all__ = ["Received"]


@final
@dataclass(frozen=True, kw_only=True)
class Received(Score):
    """Keeps entries that have received most attention (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(acts=False, maps=True)
    per_query: bool = False

    def rate(self, past: Past) -> Rates:
        made = []
        for bank in past.banks:
            assert bank.received is not None
            seen_by = past.seen - bank.when.now if self.per_query else 1
            made.append(bank.received.now / seen_by)
        return made

    @classmethod
    def examples(cls) -> Sequence["Received"]:
        return [cls(), cls(per_query=True)]
