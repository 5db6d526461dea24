"""Some heads keep much, the others little: retrieval heads look far back, streaming heads at the start and the last tokens.

Source:  DuoAttention, arXiv 2410.10819, sec. 2.3 (all the past for retrieval heads, sinks and recent tokens for others);
         RazorAttention, arXiv 2407.15891, sec. 3.
Names:   a head is a key-value head; it is protected if one of its query heads is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch

from attime.errors import AttimeError
from attime.memory.evict.contract import Budget, Counts, Rates
from attime.memory.past import Past

__all__ = ["PerHead"]

ALL = 2**40  # more entries than any past has


@final
@dataclass(frozen=True, kw_only=True)
class PerHead(Budget):
    """`entries` for the heads that are named, `others` for the others."""

    heads: tuple[tuple[int, int], ...]
    """(layer, key-value head) of every head that is named."""
    others: int = 384
    entries: int | None = None
    """None: everything."""

    @property
    def smallest(self) -> int:
        return self.others if self.entries is None else min(self.others, self.entries)

    def check(self, past: Past) -> None:
        for layer, head in self.heads:
            if not (0 <= layer < past.layers and 0 <= head < past.heads):
                raise AttimeError(
                    f"PerHead names head {head} of layer {layer}, and the model has {past.layers} layers of {past.heads} "
                    f"key-value heads."
                )

    def counts(self, past: Past, rated: Callable[[], Rates], *, every: int) -> Counts:
        self.check(past)
        kept = torch.full((past.heads,), self.others - every)
        for layer, head in self.heads:
            if layer == past.layer:
                kept[head] = ALL if self.entries is None else self.entries - every
        return [kept.to(bank.lanes.device)[bank.lanes % past.heads] for bank in past.banks]

    @classmethod
    def examples(cls) -> Sequence["PerHead"]:
        return [cls(heads=((0, 1),), others=12), cls(heads=((0, 0), (1, 1)), others=12, entries=24)]
