"""The older, the fewer bits: exact, then 8, 4 and 2 bits in steps of age, each the leading bits of what was there before.

    bits of an entry with n later ones:   exact for n < ages_1,   bits_i for ages_i <= n < ages_{i+1}

Source:  The Nature of Mathematical Modeling and Probabilistic Optimization Engineering in Generative AI, arXiv 2410.18441,
         staircase adaptive quantisation of keys and values, within the scheme of KIVI, arXiv 2402.02750.
Cost:    bytes fall towards those of the last step; at a tick the codes that have come of age are cut.
Differs: in groups of `every`, so a step is late by up to 2 every - 1 tokens. Nothing is quantised again: leading bits of a
         code are the code of fewer bits (see `Quantized`). Age counts the entries of today, so with eviction before it
         it runs slower. The sinks stay exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import final

from attime.errors import AttimeError
from attime.memory.contract import Policy
from attime.memory.past import Past
from attime.memory.quantize.contract import check_bits, check_dims, fewer_stores, settle
from attime.memory.quantize.quantized import Quantized
from attime.memory.store import Entries, Store

__all__ = ["Staircase"]


@final
@dataclass(frozen=True, kw_only=True)
class Staircase(Policy):
    """Falling bit widths with age (see the module docstring)."""

    bits: tuple[int, ...] = (8, 4, 2)
    ages: tuple[int, ...] = (60, 252, 1020)
    """From how many later entries on each of `bits` holds."""
    sinks: int = 4
    every: int = 64

    def __post_init__(self) -> None:
        check_bits(self, bits=self.bits, sinks=self.sinks, recent=min(self.ages, default=0), every=self.every)
        falls = all(one > two for one, two in pairwise(self.bits)) and all(
            one < two for one, two in pairwise(self.ages)
        )
        if not self.bits or len(self.bits) != len(self.ages) or not falls:
            raise AttimeError(
                f"Staircase needs bits that fall and as many ages that rise; got bits={self.bits}, ages={self.ages}."
            )

    def check(self, past: Past) -> None:
        super().check(past)
        check_dims(past, self.bits)

    def act(self, past: Past) -> None:
        def coded(keys: Entries, values: Entries, first: int) -> Store:
            return Quantized.of(keys, values, bits=self.bits[0], group=self.every)

        for bank in past.banks:
            settle(bank, coded, sinks=self.sinks, recent=self.ages[0], every=self.every)
            bank.keep_in(self._aged)

    def _aged(self, stores: list[Store]) -> list[Store]:
        """The same entries, cut to the bits of their age."""
        made, later = [stores[-1]], stores[-1].length
        for store in reversed(stores[:-1]):
            made = [*(self._stairs(store, later) if isinstance(store, Quantized) else [store]), *made]
            later += store.length
        return fewer_stores(made)

    def _stairs(self, store: Quantized, later: int) -> list[Store]:
        """One store for every step that its entries are on, where `later` entries come after its last."""
        made, stop = list[Store](), 0
        for bits, age in reversed([*zip(self.bits, self.ages, strict=True)][1:]):
            end = max(stop, (store.length + later - age) // self.every * self.every)
            if end > stop and bits < store.bits:
                made.append(store.part(stop, min(end, store.length)).narrow(bits))
                stop = min(end, store.length)
        return [*made, store.part(stop, store.length)] if stop < store.length else made

    @classmethod
    def examples(cls) -> Sequence["Staircase"]:
        return [
            cls(ages=(4, 12, 24), sinks=2, every=4),
            cls(bits=(8, 2), ages=(0, 7), sinks=0, every=1),
        ]
