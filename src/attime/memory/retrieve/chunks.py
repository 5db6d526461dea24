r"""A memory apart from any window: what comes goes into chunks, and every query brings back the entries of its likeliest ones.

    r_c = mean of the chunk's keys      chosen = top `entries` / `chunk` over c of  q . r_c      more than `capacity`: oldest out

Source:  LongMem, arXiv 2306.07174, sec. 2.3 (token-to-chunk retrieval) and its public code.
Names:   our `entries` is their K, `chunk` their csz, `capacity` their M.
Cost:    a query reads one mean key per chunk and `entries` keys and values; `capacity` of them are held, and a quarter of
         that again before the place is written anew.
Differs: every row of a batch has a memory of its own, and a query sees no other's; of many query heads with one key-value
         head, the mean chooses. Entries that do not fill a chunk wait until they do, and are not found before.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from attime.errors import AttimeError
from attime.memory.choosing import Choosing
from attime.memory.contract import Traits
from attime.memory.parked import Parked
from attime.memory.past import Past
from attime.memory.retrieve.contract import Search, Where
from attime.memory.retrieve.exhaustive import Exhaustive
from attime.memory.retrieve.in_memory import InMemory
from attime.part import Part

__all__ = ["Chunks", "Remembered"]

Found = Float[Tensor, "batch kv_heads time entries _"]


@final
@dataclass(frozen=True, kw_only=True)
class Chunks(Part):
    """How a memory of chunks is kept and searched (see the module docstring); `open()` begins one."""

    traits: ClassVar[Traits] = Traits(acts=False)
    capacity: int = 65536
    """Entries of a lane; in whole chunks, the oldest go first."""
    chunk: int = 4
    entries: int = 64
    """Entries that a query brings back, a multiple of `chunk`; fewer while there are no more."""
    search: Search = field(default_factory=Exhaustive)
    where: Where = field(default_factory=InMemory)

    def __post_init__(self) -> None:
        if self.chunk < 1 or self.entries < self.chunk or self.entries % self.chunk or self.capacity < self.entries:
            raise AttimeError(f"Chunks needs chunk >= 1, entries a multiple of it and capacity >= entries; got {self}.")

    def open(self) -> "Remembered":
        """An empty memory."""
        return Remembered(self)

    @classmethod
    def examples(cls) -> Sequence["Chunks"]:
        return [cls(capacity=16, chunk=2, entries=4), cls(capacity=9, chunk=1, entries=3)]


@final
class Remembered:
    """Keys and values of rows that share their time, without positions. No gradient flows into them."""

    def __init__(self, how: Chunks) -> None:
        self.how, self._past = how, Past(heads=1)

    @property
    def length(self) -> int:
        """Entries of a lane that can be found."""
        return 0 if (parked := self._parked) is None else parked.entries

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        return self._past.nbytes

    @torch.no_grad()
    def add(
        self,
        keys: Float[Tensor, "batch heads time head_dim"],
        values: Float[Tensor, "batch heads time value_dim"],
    ) -> None:
        """What comes next, of every row; what no longer fits is lost, oldest first."""
        past, how = self._past, self.how
        past.heads = keys.shape[1]
        if past.banks and past.lanes != keys.shape[0] * keys.shape[1]:
            raise AttimeError(
                f"this memory is of {past.lanes} rows times heads; got {keys.shape[0]} x {keys.shape[1]}: open another."
            )
        past.append(keys.detach().flatten(0, 1), values.detach().flatten(0, 1))
        [bank] = past.banks
        if whole := bank.length // how.chunk * how.chunk:
            choosing = Choosing(
                blocks=how.entries // how.chunk,
                by="token",
                heads="own",
                cosine=False,
                unrotated=False,
                contiguous=False,
            )
            bank.parked = bank.parked or Parked.empty(bank, how.chunk, choosing, how.where.open, how.search.open)
            bank.parked.add(past, bank, slice(0, whole))
            rest = torch.arange(bank.length, device=keys.device) >= whole
            past.drop([rest.expand(past.lanes, -1)])
            if (over := bank.parked.blocks.count - how.capacity // how.chunk) > 0:
                bank.parked.forget(over)

    @torch.no_grad()
    def recall(self, q: Float[Tensor, "batch heads time head_dim"]) -> tuple[Found, Found] | None:
        """Keys and values that each query brings back, in order of time; None as long as there are none."""
        if (parked := self._parked) is None:
            return None
        past, (rows, heads) = self._past, q.shape[:2]
        lanes = q.unflatten(1, (past.heads, heads // past.heads)).flatten(0, 1)
        found = [each.gathered() for each in parked.recall(past, past.banks[0], lanes)]
        keys, values = (torch.cat(each, dim=1).flatten(2, 3) for each in zip(*found, strict=True))
        return keys.unflatten(0, (rows, -1)), values.unflatten(0, (rows, -1))

    @property
    def _parked(self) -> Parked | None:
        return self._past.banks[0].parked if self._past.banks else None
