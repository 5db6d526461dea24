"""One budget for all heads of a layer: the entries that any of them rates highest stay, so scattered heads get more.

    kept = top(h n) of the h heads' entries together; every head first gets its best floor * n

Source:  AdaKV, arXiv 2407.11550, alg. 1; floor is their safeguard alpha.
Cost:    heads part ways into banks of their own: one call of attention for each length.
Differs: at every tick, so that a head's share moves with the text; rates must mean the same in all heads of a layer, as
         attention does and norms may not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch

from attime.errors import AttimeError
from attime.memory.evict.contract import Budget, Counts, Rates
from attime.memory.past import Past

__all__ = ["Adaptive"]


@final
@dataclass(frozen=True, kw_only=True)
class Adaptive(Budget):
    """`entries` per head on average over a layer."""

    entries: int = 1024
    floor: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= 1:
            raise AttimeError(f"Adaptive needs a floor between 0 and 1, a share of the mean; got {self.floor}.")

    @property
    def smallest(self) -> int:
        return self.entries

    def counts(self, past: Past, rated: Callable[[], Rates], *, every: int) -> Counts:
        mean, longest = self.entries - every, max(bank.length for bank in past.banks)
        lengths = past.kept().view(-1, past.heads)
        if int(lengths.sum(1).max()) <= mean * past.heads:
            return [torch.full_like(bank.lanes, bank.length) for bank in past.banks]
        rates = rated()
        whole = rates[0].new_full((past.lanes, longest), -torch.inf)
        for bank, each in zip(past.banks, rates, strict=True):
            safe = each.topk(min(int(self.floor * mean), bank.length), dim=1).indices
            whole[bank.lanes, : bank.length] = each.scatter(1, safe, torch.inf)
        best = whole.view(-1, past.heads * longest).argsort(dim=1, descending=True, stable=True)[:, : mean * past.heads]
        chosen = torch.zeros_like(whole.view(len(best), -1), dtype=torch.bool).scatter(1, best, True)
        counts = chosen.view(past.lanes, longest).sum(1)
        return [counts[bank.lanes].clamp(max=bank.length) for bank in past.banks]

    @classmethod
    def examples(cls) -> Sequence["Adaptive"]:
        return [cls(entries=16), cls(entries=12, floor=0.5)]
