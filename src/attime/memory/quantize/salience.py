r"""More bits for what is attended to: of each group that leaves the recent tokens, the salient ones get `high` bits.

    salience_i = sum over queries t that could see i of attention(t, i) / their number

Source:  ZipCache, arXiv 2405.14256, sec. 4.2 eq. 8 (normalised attention), sec. 4.3 (probes); ZipVL, arXiv 2410.08584,
         sec. 4.1 (`mass`: the fewest tokens that have so much of all attention; which ones, the normalised score says).
Names:   `salient` is ZipCache's saliency ratio, `mass` is ZipVL's tau.
Cost:    that of the bits in the mean, and 4 bytes for an entry; maps are formed between two ticks only, or, with `probes`,
         for so many queries at a tick, of which the last `every` are kept where some are `drawn`.
Differs: a token is judged once, beside its group and for its own head, when it leaves the recent ones: they judge a prompt
         as a whole. A question behind a long prompt comes too late for what lies further back than `recent`. Queries
         that could see a token are counted, where ZipCache's code divides by all that came after it. Of every group at
         least one token is salient and one is not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attime.errors import AttimeError
from attime.memory.contract import Policy, Traits, check_evidence
from attime.memory.highest import highest
from attime.memory.past import Bank, Past
from attime.memory.quantize.contract import check_bits, check_dims, settle
from attime.memory.quantize.interleaved import Interleaved
from attime.memory.reader import observe
from attime.memory.store import Entries, Store

__all__ = ["Salience"]

Rates = Float[Tensor, "lanes rated"]


@final
@dataclass(frozen=True, kw_only=True)
class Salience(Policy):
    """Two bit widths, by the attention that tokens receive (see the module docstring)."""

    high: int = 4
    low: int = 2
    salient: float = 0.6
    """The share of a group that gets `high` bits ..."""
    mass: float | None = None
    """... or as many as have this share of its attention: fewer where attention is sparse."""
    normalised: bool = True
    """False: the sum of attention alone, which favours what has been there for longer."""
    probes: int | None = None
    """Attention of so many last queries; None: of all ..."""
    drawn: int = 0
    """... and of so many others of the last `every`, drawn at random (the same ones for all heads)."""
    sinks: int = 4
    recent: int = 60
    every: int = 64

    def __post_init__(self) -> None:
        check_bits(self, bits=[self.high, self.low], sinks=self.sinks, recent=self.recent, every=self.every)
        shares = 0 < self.salient < 1 and (self.mass is None or 0 < self.mass <= 1)
        if self.low >= self.high or self.every < 2 or not shares or (self.probes is not None and self.probes < 1):
            raise AttimeError(
                f"Salience needs low < high bits, every >= 2, 0 < salient < 1, 0 < mass <= 1 and probes >= 1; got {self}."
            )
        if self.drawn and (self.probes is None or not 0 < self.drawn <= self.every - self.probes):
            raise AttimeError(f"Salience draws queries beside probes, both at most `every` together; got {self}.")

    def evidence(self) -> Traits:
        return Traits(maps=self.probes is None, queries=self.every if self.drawn else self.probes or 0)

    def check(self, past: Past) -> None:
        super().check(past)
        check_dims(past, [self.high, self.low])

    def act(self, past: Past) -> None:
        check_evidence(self, self.evidence(), past)
        if self.mass is not None:
            past.banks = [part for bank in past.banks for part in _rows(past, bank)]
        for bank in past.banks:
            received, seen_by = self._attention(past, bank)
            coded = partial(self._coded, received, received / seen_by if self.normalised else received)
            settle(bank, coded, sinks=self.sinks, recent=self.recent, every=self.every)

    def _attention(self, past: Past, bank: Bank) -> tuple[Rates, Rates]:
        """What entries have received, and from how many queries."""
        age = past.seen - bank.when.now
        if self.probes is None:
            assert bank.received is not None
            return bank.received.now, age.to(bank.received.now.dtype)
        if not self.drawn:
            attention = observe(past, bank, self.probes)
            return attention.sum((1, 2)), age.clamp(max=attention.shape[2]).to(attention.dtype)
        some = self._some(past)
        attention = observe(past, bank, self.every, some=some)
        since = (self.every - some).to(age.device)  # a query could see what is as old as itself, or older
        could = (age[:, None] >= since[:, None]).sum(1).clamp(min=1)
        return attention.sum((1, 2)), could.to(attention.dtype)

    def _some(self, past: Past) -> Int[Tensor, " some"]:
        """Numbers among the last `every` queries: some at random, the same however time was cut, and the last ones."""
        generator = torch.Generator().manual_seed(past.seen * past.layers + past.layer)
        latest = self.every - (self.probes or 0)
        drawn = torch.randperm(latest, generator=generator)[: self.drawn].sort().values
        return torch.cat([drawn, torch.arange(latest, self.every)])

    def _coded(self, received: Rates, rates: Rates, keys: Entries, values: Entries, first: int) -> Store:
        """The store of some groups, whose first entry has this number among the rates."""
        made: Interleaved | None = None
        for start in range(0, keys.shape[1], self.every):
            here, there = slice(start, start + self.every), slice(first + start, first + start + self.every)
            salient = highest(rates[:, there], self._count(received[:, there]))
            group = Interleaved.of(keys[:, here], values[:, here], salient=salient, bits=(self.high, self.low))
            made = group if made is None else made.join(group)
        assert made is not None
        return made

    def _count(self, received: Rates) -> int:
        """How many of a group are salient; the heads of a row share the number."""
        count = round(self.salient * self.every)
        if self.mass is not None:
            whole = received.sum(0).sort(descending=True).values.cumsum(0)
            count = 1 + int((whole < self.mass * whole[-1]).sum())
        return min(max(count, 1), self.every - 1)

    @classmethod
    def examples(cls) -> Sequence["Salience"]:
        return [
            cls(sinks=2, recent=5, every=4, salient=0.5),
            cls(high=8, low=4, sinks=0, recent=0, every=2, normalised=False),
            cls(sinks=1, recent=3, every=8, mass=0.8),
            cls(sinks=2, recent=6, every=5, probes=4),
            cls(sinks=2, recent=4, every=4, probes=1, drawn=2),
        ]


def _rows(past: Past, bank: Bank) -> list[Bank]:
    """A bank for each row of the batch: how much is salient differs between them."""
    row = bank.lanes // past.heads
    each = row.unique().tolist()
    return [bank] if len(each) == 1 else [bank.take((row == one).nonzero()[:, 0]) for one in each]
