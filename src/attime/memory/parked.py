"""Parked entries of a bank: a query brings the likeliest blocks of them back, at the positions where they are to be read."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attime.memory.at_hand import AtHand, Edge
from attime.memory.blocks import Blocks
from attime.memory.choosing import Choosing, choose
from attime.memory.index import Index, Scanned
from attime.memory.pool import Pool
from attime.memory.recalled import OneForAll, OneForEach, Recalled
from attime.memory.rotary import Turn

if TYPE_CHECKING:
    from attime.memory.past import Bank, Past

__all__ = ["Parked"]

AT_A_TIME = 1 << 24  # numbers of keys that are at most brought back for some of a chunk's queries together
Grouped = Float[Tensor, "lanes groups time head_dim"]


@dataclass(eq=False)
class Parked:
    """Blocks of some lanes, and who chooses what comes back of them."""

    choosing: Choosing
    blocks: Blocks
    asked: bool = False
    """The next chunk is a question: its queries choose together, and that stays."""
    pinned: Int[Tensor, "lanes chosen"] | None = None
    held: AtHand | None = None
    """Blocks brought back last."""

    @classmethod
    def empty(
        cls,
        bank: "Bank",
        size: int,
        choosing: Choosing,
        pool: Callable[[Tensor], Pool],
        index: Callable[[Tensor], Index] = Scanned,
    ) -> "Parked":
        """Nothing parked yet, for the lanes of this bank."""
        return cls(choosing, Blocks.empty(bank, size, pool, index))

    @property
    def entries(self) -> int:
        """Entries per lane."""
        return self.blocks.count * self.blocks.size

    @property
    def silent(self) -> bool:
        """Nothing can come back now."""
        return not self.blocks.count or (self.pinned is None and self.choosing.by == "question")

    @property
    def nbytes(self) -> int:
        """Bytes held in memory, blocks at hand included."""
        return self.blocks.nbytes + (0 if self.held is None else self.held.nbytes)

    def add(self, past: "Past", bank: "Bank", slots: slice) -> None:
        """Park a copy of these entries, a whole number of blocks; OSError if there is no room, and nothing has changed."""
        windowed = past.scoring is not None and past.scoring.window is not None
        bare = partial(self._unrotated, past)
        self.blocks.add(bank, slots, bare, windowed=windowed)

    def forget(self, oldest: int) -> None:
        """Lose so many of the first blocks of every lane."""
        self.held = self.pinned = None
        self.blocks.forget(oldest)

    def ask(self, past: "Past", bank: "Bank", q: Grouped, positions: Int[Tensor, "lanes time"]) -> None:
        """If this chunk is the question, its queries choose together what stays in sight from now on."""
        if self.asked:
            guide = self._unrotated(past, _guides(q), positions).mean(1, keepdim=True)
            self.pinned, self.asked = self._choose(past, bank, guide)[:, 0], False
            self.settle(past, bank)

    def settle(self, past: "Past", bank: "Bank") -> None:
        """Read what stands before the window as if it stood right before what comes back."""
        before = self._before(bank)
        if not self.choosing.contiguous or not 0 < before < bank.length:
            return
        assert past.rotate is not None
        count = 0 if self.silent else self._most if self.pinned is None else self.pinned.shape[1]
        low, high = bank.positions(), bank.positions(greatest=True)
        shift = low[:, before : before + 1] - 1 - count * self.blocks.spread() - high[:, before - 1 : before]
        bank.move(shift.clamp(min=0).expand(-1, before).to(torch.float64), past.rotate)

    def recall(self, past: "Past", bank: "Bank", q: Grouped) -> Iterator[Recalled]:
        """What each query of the chunk attends to beside the bank, some queries at a time."""
        time = q.shape[2]
        if self.pinned is not None:
            yield self._at_hand(past, bank, self.pinned, learning=False)
            return
        if time == 1:
            position = past.seen - 1 if bank.place is None else bank.positions()[:, -1:]
            guide = self._unrotated(past, _guides(q), position)
            learning = torch.is_grad_enabled() and q.requires_grad
            yield self._at_hand(past, bank, self._choose(past, bank, guide)[:, 0], learning=learning)
            return
        guide = self._unrotated(past, _guides(q), bank.positions()[:, -time:])
        blocks, edge = self.blocks, self._edge(bank)
        step = max(1, AT_A_TIME // (len(q) * self._most * blocks.size * blocks.head_dim))
        for start in range(0, time, step):
            here = slice(start, min(start + step, time))
            chosen = self._choose(past, bank, guide[:, here])
            numbers, which = blocks.records(chosen).unique(return_inverse=True)
            back = self._back(past, edge, chosen, torch.arange(chosen.shape[2], device=q.device), q.dtype)
            keys, values = blocks.read(numbers)
            known = blocks.firsts(chosen), back, blocks.masses(chosen), blocks.whens(chosen)
            yield OneForEach(here, keys, values, *known, which=which)

    def take(self, chosen: Int[Tensor, " chosen"]) -> "Parked":
        """The same of some lanes."""
        pinned = None if self.pinned is None else self.pinned[chosen]
        return replace(self, blocks=self.blocks.take(chosen), pinned=pinned, held=None)

    def tensors(self) -> dict[str, Tensor]:
        """All but the records, by name, for saving ..."""
        known = self.blocks.tensors()
        return known if self.pinned is None else known | {"pinned": self.pinned}

    def told(self) -> dict[str, Any]:
        """... and what else `restore` needs."""
        return self.blocks.told() | {"asked": self.asked, "choosing": asdict(self.choosing)}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], told: Mapping[str, Any], blocks: Blocks) -> "Parked":
        """The same again, with these blocks."""
        return cls(Choosing(**told["choosing"]), blocks, asked=told["asked"], pinned=tensors.get("pinned"))

    def __deepcopy__(self, memo: dict[int, Any]) -> "Parked":
        pinned = None if self.pinned is None else self.pinned.clone()
        return replace(self, blocks=self.blocks.branch(), pinned=pinned, held=None)

    @property
    def _most(self) -> int:
        return min(self.choosing.blocks, self.blocks.count)

    def _before(self, bank: "Bank") -> int:
        """How many entries stand before the first parked block."""
        return int((bank.when.now < self.blocks.first.now[:, :1]).sum(1).max())

    def _unrotated(self, past: "Past", keys: Tensor, positions: Tensor | int) -> Tensor:
        if not self.choosing.unrotated or past.rotate is None:
            return keys
        return past.rotate.by(-positions, keys.dtype)(keys)

    def _choose(self, past: "Past", bank: "Bank", guide: Tensor) -> Int[Tensor, "lanes time chosen"]:
        row = past.heads if len(past.banks) == 1 else bank.lanes // past.heads
        return choose(self.choosing, self.blocks.index, guide, row, self._most)

    def _at_hand(self, past: "Past", bank: "Bank", chosen: Int[Tensor, "lanes chosen"], *, learning: bool) -> Recalled:
        """These blocks for all queries; what has come back for the last ones is not read, or placed, again."""
        if self.held is None or not self.held.turn_to(chosen, self._read, learning=learning):
            self.held = AtHand(chosen, self._read)
        held, gone = self.held, past.seen - bank.length
        if held.gone != gone:
            held.edge, held.gone, held.recalled = self._edge(bank), gone, None
        if held.recalled is None:
            chosen, rank = held.blocks[:, None], torch.searchsorted(held.wanted.contiguous(), held.blocks)[:, None]
            back = self._back(past, held.edge, chosen, rank, held.keys.dtype)
            known = self.blocks.firsts(chosen), back, self.blocks.masses(chosen), self.blocks.whens(chosen)
            held.recalled = OneForAll(slice(None), held.keys.flatten(0, 1), held.values.flatten(0, 1), *known)
        return held.recalled

    def _read(self, lanes: Int[Tensor, " some"], blocks: Int[Tensor, " some"]) -> tuple[Tensor, Tensor]:
        return self.blocks.read(self.blocks.numbers.now[lanes, blocks])

    def _edge(self, bank: "Bank") -> Edge | None:
        """Where what comes back ends until more is parked; None: it is read where it stood."""
        if not self.choosing.contiguous or bank.length <= (before := self._before(bank)):
            return None
        return bank.positions()[:, before, None, None] - 1, self.blocks.spread()[:, :, None]

    def _back(
        self,
        past: "Past",
        edge: Edge | None,
        chosen: Int[Tensor, "lanes sets chosen"],
        rank: Int[Tensor, "*#lanes_sets chosen"],
        dtype: torch.dtype,
    ) -> Turn | None:
        """The turn back by as much as these blocks are read as later than they were, each standing in order of `rank`."""
        if edge is None:
            return None
        assert past.rotate is not None
        end = edge[0] - (chosen.shape[2] - 1 - rank) * edge[1]
        shift = (end - self.blocks.last_places(chosen)).clamp(min=0)
        return past.rotate.by(-shift[..., None], dtype)


def _guides(q: Grouped) -> Float[Tensor, "lanes time head_dim"]:
    """What asks for a lane: the mean over its query heads."""
    return q.mean(1) if q.shape[1] > 1 else q[:, 0]
