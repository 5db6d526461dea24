"""Any entries stay, each head its own: the floor that a score must beat.

score_i = hash(seed, layer, head, i): the same in every run, whatever the chunks
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from attime.memory.evict.contract import Rates, Score
from attime.memory.past import Past

__all__ = ["Random"]

ODD = (-7046029254386353131, -4658895280553007687, -7723592293110705685)  # of splitmix64, as signed numbers


@final
@dataclass(frozen=True, kw_only=True)
class Random(Score):
    """Keeps entries by lot."""

    seed: int = 0

    def rate(self, past: Past) -> Rates:
        made = []
        for bank in past.banks:
            head = (bank.lanes % past.heads)[:, None] + past.heads * past.layer
            mixed = ((bank.when.now.long() + 1) << 20) + head + (self.seed << 44)
            for odd in ODD:
                mixed = mixed * odd
                mixed = mixed ^ ((mixed >> 29) & (2**35 - 1))
            made.append((mixed & (2**52 - 1)).double() / 2**52)
        return made

    @classmethod
    def examples(cls) -> Sequence["Random"]:
        return [cls(), cls(seed=7)]
