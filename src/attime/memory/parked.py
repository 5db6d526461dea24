"""Parked entries of a bank: blocks in a pool, with one key for each in an index; a query brings the likeliest back."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attime.memory.at_hand import AtHand, Edge
from attime.memory.buffer import Buffer
from attime.memory.choosing import Choosing, choose
from attime.memory.index import Index, Scanned
from attime.memory.pool import Pool
from attime.memory.recalled import OneForAll, OneForEach, Recalled
from attime.memory.rotary import Turn

if TYPE_CHECKING:
    from attime.memory.past import Bank, Past

__all__ = ["Parked"]

BUFFERS = ("numbers", "index", "first", "place", "log_mass")
AT_A_TIME = 1 << 24  # numbers of keys that are at most brought back for some of a chunk's queries together


@dataclass(eq=False)
class Parked:
    """Blocks of `size` entries of some lanes, all lanes equally many."""

    choosing: Choosing
    pool: Pool
    size: int
    head_dim: int
    numbers: Buffer
    """(lanes, blocks): their records."""
    index: Index
    """(lanes, blocks, head_dim): mean keys."""
    first: Buffer
    """(lanes, blocks): number of the first token of each."""
    place: Buffer
    """(lanes, blocks, 2): least and greatest rotary position of each."""
    log_mass: Buffer | None = None
    """(lanes, blocks, size): as in the bank, where any entry stood for several tokens when it was parked."""
    asked: bool = False
    """The next chunk is a question: its queries choose together, and that stays."""
    pinned: Int[Tensor, "lanes chosen"] | None = None
    held: AtHand | None = None
    """Blocks brought back last."""
    lost: int = 0
    """Blocks per lane whose records are still in the pool, although they are forgotten."""

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
        keys, values, none = bank.exact.keys(), bank.exact.values(), bank.when.now[:, :0]
        like = keys.new_empty(0, size * (keys.shape[2] + values.shape[2]))
        return cls(
            choosing=choosing,
            pool=pool(like),
            size=size,
            head_dim=keys.shape[2],
            numbers=Buffer(none.long()),
            index=index(keys[:, :0]),
            first=Buffer(none),
            place=Buffer(none[:, :, None].expand(-1, -1, 2)),
        )

    @property
    def blocks(self) -> int:
        """Blocks per lane."""
        return self.numbers.length

    @property
    def entries(self) -> int:
        """Entries per lane."""
        return self.blocks * self.size

    @property
    def silent(self) -> bool:
        """Nothing can come back now."""
        return not self.blocks or (self.pinned is None and self.choosing.by == "question")

    @property
    def nbytes(self) -> int:
        """Bytes held in memory: the index, blocks at hand, and this one's share of the pool."""
        known = sum(each.nbytes for each in self._known.values())
        at_hand = 0 if self.held is None else self.held.nbytes
        return known + at_hand + self.pool.share(self.numbers.now.numel())

    def add(self, past: "Past", bank: "Bank", slots: slice) -> None:
        """Park a copy of these entries, a whole number of blocks; OSError if there is no room, and nothing has changed."""
        keys, values = (each[:, slots].unflatten(1, (-1, self.size)) for each in (bank.keys(), bank.values()))
        records = torch.cat([keys.flatten(2), values.flatten(2)], dim=2).transpose(0, 1)
        numbers = self.pool.add(records.flatten(0, 1)).view(records.shape[:2]).transpose(0, 1)
        when = bank.when.now[:, slots].unflatten(1, (-1, self.size))
        place = when[..., None] if bank.place is None else bank.place.now[:, slots].unflatten(1, (-1, self.size))
        bare = self._unrotated(past, keys.flatten(1, 2), place[..., 0].flatten(1, 2)).view(keys.shape)
        self.numbers.append(numbers)
        self.index.append(bare.mean(2))
        self.first.append(when[:, :, 0])
        self.place.append(torch.stack([place[..., 0].amin(2), place[..., -1].amax(2)], dim=2))
        if bank.log_mass is not None:
            mass = bank.log_mass.now[:, slots].unflatten(1, (-1, self.size))
            if self.log_mass is None:
                self.log_mass = Buffer(mass.new_zeros(len(mass), self.blocks - mass.shape[1], self.size))
            self.log_mass.append(mass)

    def forget(self, oldest: int) -> None:
        """Lose so many of the first blocks of every lane; a pool that is a fifth rubbish is written anew."""
        self.held = self.pinned = None
        self.index.forget(oldest)
        self.numbers, self.first, self.place = (
            Buffer(each.now[:, oldest:]) for each in (self.numbers, self.first, self.place)
        )
        self.log_mass = None if self.log_mass is None else Buffer(self.log_mass.now[:, oldest:])
        self.lost += oldest
        if 4 * self.lost > self.blocks:
            self.pool, numbers = self.pool.anew(self.numbers.now.T)
            self.numbers, self.lost = Buffer(numbers.T), 0

    def ask(
        self,
        past: "Past",
        bank: "Bank",
        q: Float[Tensor, "lanes groups time head_dim"],
        positions: Int[Tensor, "lanes time"],
    ) -> None:
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
        low, high = _positions(bank), _positions(bank, greatest=True)
        shift = low[:, before : before + 1] - 1 - count * self._spread() - high[:, before - 1 : before]
        bank.move(shift.clamp(min=0).expand(-1, before).to(torch.float64), past.rotate)

    def recall(self, past: "Past", bank: "Bank", q: Float[Tensor, "lanes groups time head_dim"]) -> Iterator[Recalled]:
        """What each query of the chunk attends to beside the bank, some queries at a time."""
        time = q.shape[2]
        if self.pinned is not None:
            yield self._at_hand(past, bank, self.pinned)
            return
        if time == 1:
            position = past.seen - 1 if bank.place is None else _positions(bank)[:, -1:]
            guide = self._unrotated(past, _guides(q), position)
            yield self._at_hand(past, bank, self._choose(past, bank, guide)[:, 0])
            return
        guide = self._unrotated(past, _guides(q), _positions(bank)[:, -time:])
        edge = self._edge(bank)
        step = max(1, AT_A_TIME // (len(q) * self._most * self.size * self.head_dim))
        for start in range(0, time, step):
            here = slice(start, min(start + step, time))
            chosen = self._choose(past, bank, guide[:, here])
            numbers, which = _of_lanes(self.numbers.now, chosen).unique(return_inverse=True)
            rank = torch.arange(chosen.shape[2], device=q.device)
            keys, values = self._split(self.pool.read(numbers))
            first, back = _of_lanes(self.first.now, chosen), self._back(past, edge, chosen, rank, q.dtype)
            yield OneForEach(here, keys, values, first, back, self._mass(chosen), which=which)

    def lanes(self, chosen: Int[Tensor, " chosen"]) -> "Parked":
        """The same of some lanes."""
        known: dict[str, Any] = {name: each.lanes(chosen) for name, each in self._known.items()}
        return replace(self, pinned=None if self.pinned is None else self.pinned[chosen], held=None, **known)

    def tensors(self) -> dict[str, Tensor]:
        """All but the records, by name, for saving ..."""
        known = {name: each.now for name, each in self._known.items() if name != "numbers"}
        return known if self.pinned is None else known | {"pinned": self.pinned}

    def told(self) -> dict[str, Any]:
        """... and what else `restore` needs."""
        told = {name: getattr(self, name) for name in ("size", "head_dim", "asked")} | {
            "choosing": asdict(self.choosing)
        }
        parts: dict[str, Any] = {"where": self.pool.where, "search": self.index.search}
        for name, part in parts.items():
            if part is not None:
                told |= {name: f"{type(part).__module__}:{type(part).__name__}", f"{name}_options": asdict(part)}
        return told

    @classmethod
    def restore(
        cls, tensors: Mapping[str, Tensor], told: Mapping[str, Any], pool: Pool, numbers: Tensor, index: Index
    ) -> "Parked":
        """The same again, with its records in this pool under these numbers (lanes, blocks), and this index."""
        options = {name: told[name] for name in ("size", "head_dim", "asked")}
        named = [name for name in ("first", "place", "log_mass") if name in tensors]
        known: dict[str, Any] = {name: Buffer(tensors[name]) for name in named} | {"numbers": Buffer(numbers)}
        how = Choosing(**told["choosing"])
        return cls(choosing=how, pool=pool, index=index, pinned=tensors.get("pinned"), **options, **known)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Parked":
        made = self.lanes(torch.arange(self.numbers.now.shape[0], device=self.numbers.now.device))
        made.pool = self.pool.branch()
        return made

    @property
    def _known(self) -> dict[str, Any]:
        """What there is of the buffers."""
        return {name: each for name in BUFFERS if (each := getattr(self, name)) is not None}

    @property
    def _most(self) -> int:
        return min(self.choosing.blocks, self.blocks)

    def _before(self, bank: "Bank") -> int:
        """How many entries stand before the first parked block."""
        return int((bank.when.now < self.first.now[:, :1]).sum(1).max())

    def _spread(self) -> Int[Tensor, "lanes 1"]:
        """Positions that a block takes up at most."""
        low, high = self.place.now.unbind(-1)
        return (high - low).amax(1, keepdim=True) + 1

    def _unrotated(self, past: "Past", keys: Tensor, positions: Tensor | int) -> Tensor:
        if not self.choosing.unrotated or past.rotate is None:
            return keys
        return past.rotate.by(-positions, keys.dtype)(keys)

    def _choose(self, past: "Past", bank: "Bank", guide: Tensor) -> Int[Tensor, "lanes time chosen"]:
        row = past.heads if len(past.banks) == 1 else bank.lanes // past.heads
        return choose(self.choosing, self.index, guide, row, self._most)

    def _at_hand(self, past: "Past", bank: "Bank", chosen: Int[Tensor, "lanes chosen"]) -> Recalled:
        """These blocks for all queries; what has come back for the last ones is not read, or placed, again."""
        if self.held is None or not self.held.turn_to(chosen, self._read):
            self.held = AtHand(chosen, self._read)
        held, gone = self.held, past.seen - bank.length
        if held.gone != gone:
            held.edge, held.gone, held.recalled = self._edge(bank), gone, None
        if held.recalled is None:
            blocks, rank = held.blocks[:, None], torch.searchsorted(held.wanted.contiguous(), held.blocks)[:, None]
            keys, values = held.keys.flatten(0, 1), held.values.flatten(0, 1)
            first, back = _of_lanes(self.first.now, blocks), self._back(past, held.edge, blocks, rank, keys.dtype)
            held.recalled = OneForAll(slice(None), keys, values, first, back, self._mass(blocks))
        return held.recalled

    def _read(self, lanes: Int[Tensor, " some"], blocks: Int[Tensor, " some"]) -> tuple[Tensor, Tensor]:
        return self._split(self.pool.read(self.numbers.now[lanes, blocks]))

    def _split(self, records: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (..., size, dim) of records."""
        keys, values = records.tensor_split([self.size * self.head_dim], dim=-1)
        return keys.unflatten(-1, (self.size, -1)), values.unflatten(-1, (self.size, -1))

    def _mass(self, chosen: Int[Tensor, "lanes sets chosen"]) -> Tensor | None:
        """Log-masses (lanes, sets, chosen, size) of these blocks."""
        if self.log_mass is None:
            return None
        return self.log_mass.now[torch.arange(len(chosen), device=chosen.device)[:, None, None], chosen]

    def _edge(self, bank: "Bank") -> Edge | None:
        """Where what comes back ends until more is parked; None: it is read where it stood."""
        if not self.choosing.contiguous or bank.length <= (before := self._before(bank)):
            return None
        return _positions(bank)[:, before, None, None] - 1, self._spread()[:, :, None]

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
        shift = (end - _of_lanes(self.place.now[..., 1], chosen)).clamp(min=0)
        return past.rotate.by(-shift[..., None], dtype)


def _positions(bank: "Bank", *, greatest: bool = False) -> Int[Tensor, "lanes entries"]:
    return bank.when.now if bank.place is None else bank.place.now[..., int(greatest)]


def _guides(q: Float[Tensor, "lanes groups time head_dim"]) -> Float[Tensor, "lanes time head_dim"]:
    """What asks for a lane: the mean over its query heads."""
    return q.mean(1) if q.shape[1] > 1 else q[:, 0]


def _of_lanes(known: Tensor, chosen: Int[Tensor, "lanes sets chosen"]) -> Tensor:
    return known.gather(1, chosen.flatten(1)).view(chosen.shape)
