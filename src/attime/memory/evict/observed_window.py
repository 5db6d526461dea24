"""What the last tokens attend to, smoothed over neighbours: they tell what the next ones will need.

    score_i = pool over i's neighbours of mean over the last w queries of attention(t, i)

Source:  SnapKV, arXiv 2404.14469, sec. 4 and its public code (window 64, mean pooling over 5).
Cost:    w rows of attention per tick: as much again as attention itself if w = every.
Differs: at every tick and not only after the prompt. Neighbours are neighbours among what is kept. The mean is over the
         queries that could see the entry, which matters inside the window alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

from torch.nn import functional as F

from attime.errors import AttimeError
from attime.memory.contract import Traits
from attime.memory.evict.contract import Rates, Score
from attime.memory.past import Past
from attime.memory.reader import observe

__all__ = ["ObservedWindow"]


@final
@dataclass(frozen=True, kw_only=True)
class ObservedWindow(Score):
    """Keeps what the last `window` queries attend to (see the module docstring)."""

    window: int = 64
    width: int = 5
    """Neighbours that are pooled, the entry in their middle."""
    pool: Literal["mean", "max"] = "mean"

    def __post_init__(self) -> None:
        if self.window < 1 or self.width < 1 or self.width % 2 == 0:
            raise AttimeError(
                f"ObservedWindow needs window >= 1 and an odd width; got window={self.window}, width={self.width}."
            )

    def evidence(self) -> Traits:
        return replace(self.traits, queries=self.window)

    def rate(self, past: Past) -> Rates:
        made = []
        for bank in past.banks:
            attention = observe(past, bank, self.window)
            last = attention.shape[2]
            seen_by = (past.seen - bank.when.now).clamp(max=last)
            rates = attention.mean(1).sum(1) / seen_by
            pooled = F.avg_pool1d if self.pool == "mean" else F.max_pool1d
            made.append(pooled(rates[:, None], self.width, stride=1, padding=self.width // 2)[:, 0])
        return made

    @classmethod
    def examples(cls) -> Sequence["ObservedWindow"]:
        return [cls(window=6), cls(window=3, width=3, pool="max")]
