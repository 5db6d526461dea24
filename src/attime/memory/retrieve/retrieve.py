r"""Retrieval: what leaves the window is parked in blocks, and each query brings its likeliest blocks back.

    r_b = mean of the block's keys      chosen = top-k over b of  q . r_b      attended = {sinks} + {chosen} + {window}

Source:  ReKV, arXiv 2503.00540, sec. 3 (by="question", heads="shared", cosine, unrotated, contiguous); by="token" is the
         scheme of InfLLM (2402.04617) and Quest (2406.10774), with ReKV's mean keys.
Names:   q is the mean over the query heads of a key-value head; a question's is the mean over its tokens too.
Cost:    a step reads sinks + window + blocks * block entries and one mean key per parked block.
Differs: the window stays in sight while a question is answered, where ReKV's question sees sinks and chosen blocks only;
         it advances in steps of `every` tokens. Blocks are cut by length. Where positions have several axes, keys are
         unrotated by the least of them. Nothing is lost on a full disk: what cannot be parked stays in the window.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import ClassVar, Literal, final

import torch

from attime.errors import AttimeError
from attime.memory.choosing import Choosing
from attime.memory.contract import Policy, Traits
from attime.memory.parked import Parked
from attime.memory.past import Bank, Past
from attime.memory.retrieve.contract import Search, Where
from attime.memory.retrieve.exhaustive import Exhaustive
from attime.memory.retrieve.in_memory import InMemory
from attime.memory.retrieve.on_disk import OnDisk

__all__ = ["Retrieve"]


@final
@dataclass(frozen=True, kw_only=True)
class Retrieve(Policy):
    """Sinks, a window, and blocks brought back from all that has left it (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(parks=True)
    sinks: int = 4
    window: int = 1020
    block: int = 64
    blocks: int = 16
    """Blocks brought back at a time."""
    by: Literal["token", "question"] = "token"
    """Who chooses: every token for itself, or the question of `MemoryCache.ask()` as a whole, and nobody before it."""
    heads: Literal["own", "shared"] = "own"
    """Every key-value head chooses for itself, or all heads of a row together."""
    cosine: bool = False
    unrotated: bool = True
    """Blocks are compared without their rotary positions, where the model has any."""
    contiguous: bool = True
    """Sinks, chosen blocks and window are read at positions without gaps; False: at their own positions."""
    where: Where = field(default_factory=InMemory)
    search: Search = field(default_factory=Exhaustive)
    """How blocks are found where every head chooses for itself and by product."""
    every: int = 128

    def __post_init__(self) -> None:
        if min(self.every, self.block, self.blocks) < 1 or self.sinks < 0 or self.window < self.every + self.block:
            raise AttimeError(
                f"Retrieve needs sinks >= 0, every, block and blocks >= 1 and window >= every + block; got {self}."
            )
        if not isinstance(self.search, Exhaustive) and (self.cosine or self.heads == "shared"):
            raise AttimeError(
                f"Retrieve asks an index only for products of one head's keys; got search={self.search} with "
                f"cosine={self.cosine} and heads={self.heads!r}: leave out one or the other."
            )

    @property
    def budget(self) -> int:
        """The most entries that are neither parked nor brought back."""
        return self.sinks + self.window

    def evidence(self) -> Traits:
        return replace(self.traits, rotary=self.contiguous)

    def unmoved(self) -> "Retrieve":
        return replace(self, contiguous=False)

    def check(self, past: Past) -> None:
        super().check(past)
        for bank in past.banks:
            self._nothing(bank)

    def act(self, past: Past) -> None:
        super().check(past)
        keep = []
        for bank in past.banks:
            slot = torch.arange(bank.length, device=bank.lanes.device)
            over = bank.length - self.sinks - (self.window - self.every)
            gone = self._park(past, bank, -(-over // self.block) * self.block) if over > 0 else 0
            keep.append(((slot < self.sinks) | (slot >= self.sinks + gone)).expand(len(bank.lanes), -1))
        past.drop(keep, room=self.every)

    def _park(self, past: Past, bank: Bank, count: int) -> int:
        """Entries after the sinks that are parked now: `count`, or none where there is no room for them."""
        if past.rotate is not None:
            bank.move(None, past.rotate)
        parked = bank.parked or self._nothing(bank)
        try:
            parked.add(past, bank, slice(self.sinks, self.sinks + count))
        except OSError as error:
            past.halted = AttimeError(
                f"what left the window could not be parked by {self.where}: {error.strerror}; it is still attended, "
                f"nothing is lost: make room and go on."
            )
            past.halted.__cause__ = error
            return 0
        bank.parked = parked
        return count

    def _nothing(self, bank: Bank) -> Parked:
        """Nothing parked yet, where there is a place for it."""
        how = Choosing(**{each.name: getattr(self, each.name) for each in fields(Choosing)})
        return Parked.empty(bank, self.block, how, self.where.open, self.search.open)

    @classmethod
    def examples(cls) -> Sequence["Retrieve"]:
        return [
            cls(sinks=2, window=14, block=4, blocks=2, every=4),
            cls(sinks=0, window=9, block=3, blocks=3, every=1, where=OnDisk(), contiguous=False),
            cls(sinks=2, window=14, block=4, blocks=2, every=4, heads="shared", cosine=True, unrotated=False),
            cls(sinks=2, window=14, block=5, blocks=2, every=4, by="question", where=OnDisk()),
        ]
