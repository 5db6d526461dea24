"""Eviction by score: at every tick each head keeps its sinks, its recent tokens and the best of the rest.

    kept = {first s} + {last r} + top(score, n - s - r),    n = budget - every

Source:  the scheme of H2O (arXiv 2306.14048), TOVA (2401.06104), SnapKV (2404.14469) and AdaKV (2407.11550): they
         differ in the score and in the budget.
Names:   `every` is the number of tokens between two prunings.
Cost:    a score per tick, so 1/every of it per token; a step reads at most `budget` entries.
Differs: for the whole life of a past (prefill, decoding, turns), where most of the sources prune once after the prompt;
         in groups of query heads the key-value head decides; heads that keep different numbers really free the memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import ClassVar, final

import torch

from attime.errors import AttimeError
from attime.memory.buffer import GROWTH
from attime.memory.contract import Policy, Traits, check_evidence
from attime.memory.evict.contract import Action, Budget, Drop, Rates, Score
from attime.memory.evict.uniform import Uniform
from attime.memory.highest import highest
from attime.memory.past import Past

__all__ = ["Evict"]


@final
@dataclass(frozen=True, kw_only=True)
class Evict(Policy):
    """Keeps what a score rates highest, within a budget (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(drops=True)
    score: Score
    budget: int | Budget = 1024
    """Entries per head, or a `Budget`: Bytes, PerLayer, Pyramid, PerHead, Adaptive."""
    action: Action = field(default_factory=Drop)
    sinks: int = 4
    recent: int = 64
    every: int = 64

    def __post_init__(self) -> None:
        if self.sinks < 0 or self.recent < 1 or self.every < 1:
            raise AttimeError(
                f"Evict needs sinks >= 0, recent >= 1 and every >= 1; "
                f"got sinks={self.sinks}, recent={self.recent}, every={self.every}."
            )
        smallest, needed = self._budget.smallest, self._least + self.every
        if smallest is not None and smallest < needed:
            raise AttimeError(
                f"Evict needs a budget of at least {needed} entries per head (sinks {self.sinks} + {self.action} "
                f"{self.action.stands} + recent {self.recent} + every {self.every}); got {self.budget}: raise it, or lower these."
            )

    @property
    def _budget(self) -> Budget:
        return Uniform(entries=self.budget) if isinstance(self.budget, int) else self.budget

    @property
    def _least(self) -> int:
        return self.sinks + self.action.stands + self.recent

    def evidence(self) -> Traits:
        needs = self.score.evidence()
        return Traits(drops=True, bounded=self._budget.traits.bounded, maps=needs.maps, queries=needs.queries)

    def check(self, past: Past) -> None:
        super().check(past)
        self._budget.check(past)
        most = self._budget.limit(past)
        if most is not None:
            self._check_count(past, max(0, most - self.every))

    def act(self, past: Past) -> None:
        check_evidence(self.score, self.score.evidence(), past)
        rated = cache(lambda: self._protected(self.score.rate(past)))
        counts = self._budget.counts(past, rated, every=self.every)
        if all(bool((count >= bank.length).all()) for count, bank in zip(counts, past.banks, strict=True)):
            self._reserve(past)
            return
        fewest = min(int(count.min()) for count in counts)
        if fewest < min(bank.length for bank in past.banks):
            self._check_count(past, fewest)
        keep = [highest(rates, count) for rates, count in zip(rated(), counts, strict=True)]
        self.action.leave(past, keep, sinks=self.sinks, room=self.every)

    def _check_count(self, past: Past, fewest: int) -> None:
        if fewest < self._least:
            raise AttimeError(
                f"{self.budget} leaves {fewest} entries to a head of layer {past.layer}, fewer than the {self._least} that "
                f"sinks and recent tokens need: raise it, or lower sinks, recent or every."
            )

    def _protected(self, rates: Rates) -> Rates:
        """Rates by which sinks, the action's entries and recent tokens stay in any case."""
        made = []
        for each in rates:
            slot = torch.arange(each.shape[1], device=each.device)
            safe = (slot < self.sinks + self.action.stands) | (slot >= each.shape[1] - self.recent)
            made.append(each.masked_fill(safe, torch.inf))
        return made

    def _reserve(self, past: Past) -> None:
        """A buffer that would outgrow the budget gets its last size instead."""
        most = self._budget.limit(past)
        if most is not None and any(bank.length + self.every > most / GROWTH for bank in past.banks):
            whole = [torch.ones_like(bank.when.now, dtype=torch.bool) for bank in past.banks]
            past.drop(whole, room=most - max(bank.length for bank in past.banks))

    @classmethod
    def examples(cls) -> Sequence["Evict"]:
        from attime.memory import evict

        norm, small = evict.KeyNorm(), partial(cls, sinks=2, recent=3)
        heads = evict.PerHead(heads=((0, 1), (1, 0)), others=13)
        return [
            cls(score=norm, budget=16, sinks=0, recent=1, every=1),
            small(score=norm, budget=16, action=evict.Compensate(), every=4),
            small(score=evict.Recency(), budget=15, action=evict.Compensate(), every=1),
            small(score=evict.Received(), budget=16, every=4),
            small(score=evict.Received(per_query=True), budget=evict.PerLayer(entries=(17, 11)), every=1),
            small(score=evict.LastQuery(), budget=16, every=4),
            small(score=evict.LastQuery(per_head=True), budget=evict.Adaptive(entries=16), every=4),
            small(score=evict.ObservedWindow(window=6), budget=16, every=4),
            small(
                score=evict.ObservedWindow(window=3, width=3, pool="max"),
                budget=evict.Adaptive(entries=12, floor=0.5),
                every=2,
            ),
            small(score=evict.Expected(observed=8, ahead=5), budget=16, every=4),
            small(score=evict.Expected(observed=5, values=False), budget=evict.Pyramid(first=18, last=9), every=1),
            small(score=evict.Random(seed=1), budget=evict.Bytes(total=16000), every=4),
            small(score=evict.Recency(), budget=heads, action=evict.Compensate(), every=4),
            small(score=evict.LastQuery(), budget=heads, every=1),
        ]
