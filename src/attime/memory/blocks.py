"""Blocks of entries that are attended no more, unless they are brought back: records in a pool, and what is known of each."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from attime.memory.buffer import Buffer
from attime.memory.index import Index, Scanned
from attime.memory.pool import Pool

if TYPE_CHECKING:
    from attime.memory.bank import Bank

__all__ = ["Blocks"]

KNOWN = ("numbers", "index", "first", "place", "log_mass", "when")
Chosen = Int[Tensor, "lanes sets chosen"]


@dataclass(eq=False)
class Blocks:
    """Blocks of `size` entries of some lanes, all lanes equally many, in order of time."""

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
    when: Buffer | None = None
    """(lanes, blocks, size): numbers of the tokens, where a model's own window asks for them and any block has gaps."""
    lost: int = 0
    """Blocks per lane whose records are still in the pool, although they are forgotten."""

    @classmethod
    def empty(
        cls, bank: "Bank", size: int, pool: Callable[[Tensor], Pool], index: Callable[[Tensor], Index] = Scanned
    ) -> "Blocks":
        """None yet, for the lanes of this bank."""
        keys, values, none = bank.exact.keys(), bank.exact.values(), bank.when.now[:, :0]
        return cls(
            pool=pool(keys.new_empty(0, size * (keys.shape[2] + values.shape[2]))),
            size=size,
            head_dim=keys.shape[2],
            numbers=Buffer(none.long()),
            index=index(keys[:, :0]),
            first=Buffer(none),
            place=Buffer(none[:, :, None].expand(-1, -1, 2)),
        )

    @property
    def count(self) -> int:
        """Blocks per lane."""
        return self.numbers.length

    @property
    def nbytes(self) -> int:
        """Bytes held in memory: what is known of them, and this one's share of the pool."""
        return sum(each.nbytes for each in self._known.values()) + self.pool.share(
            min(self.numbers.now.numel(), self.pool.count)
        )

    def add(self, bank: "Bank", slots: slice, unrotated: Callable[[Tensor, Tensor], Tensor], *, windowed: bool) -> None:
        """A copy of these entries, a whole number of blocks; OSError if there is no room, and nothing has changed.

        `unrotated` makes of keys and their positions, (lanes, entries), what stands in the index. `windowed`: the model has a
        window of its own.
        """
        keys, values = (each[:, slots].unflatten(1, (-1, self.size)) for each in (bank.keys(), bank.values()))
        records = torch.cat([keys.flatten(2), values.flatten(2)], dim=2).transpose(0, 1)
        numbers = self.pool.add(records.flatten(0, 1)).view(records.shape[:2]).transpose(0, 1)
        when = bank.when.now[:, slots].unflatten(1, (-1, self.size))
        place = when[..., None] if bank.place is None else bank.place.now[:, slots].unflatten(1, (-1, self.size))
        self.numbers.append(numbers)
        self.index.append(unrotated(keys.flatten(1, 2), place[..., 0].flatten(1, 2)).view(keys.shape).mean(2))
        self.first.append(when[:, :, 0])
        self.place.append(torch.stack([place[..., 0].amin(2), place[..., -1].amax(2)], dim=2))
        if windowed and (self.when is not None or bool((when[..., -1] - when[..., 0] >= self.size).any())):
            if self.when is None:
                before = self.first.now[:, : self.count - when.shape[1], None]
                self.when = Buffer(before + torch.arange(self.size, dtype=when.dtype, device=when.device))
            self.when.append(when)
        if bank.log_mass is not None:
            mass = bank.log_mass.now[:, slots].unflatten(1, (-1, self.size))
            if self.log_mass is None:
                self.log_mass = Buffer(mass.new_zeros(len(mass), self.count - mass.shape[1], self.size))
            self.log_mass.append(mass)

    def forget(self, oldest: int) -> None:
        """Lose so many of the first blocks of every lane; a pool that is a fifth rubbish is written anew."""
        self.index.forget(oldest)
        self.numbers, self.first, self.place = (
            Buffer(each.now[:, oldest:]) for each in (self.numbers, self.first, self.place)
        )
        for name in ("log_mass", "when"):
            known = getattr(self, name)
            setattr(self, name, None if known is None else Buffer(known.now[:, oldest:]))
        self.lost += oldest
        if 4 * self.lost > self.count:
            self.pool, numbers = self.pool.anew(self.numbers.now.T)
            self.numbers, self.lost = Buffer(numbers.T), 0

    def read(self, numbers: Int[Tensor, "*records"]) -> tuple[Shaped[Tensor, "..."], Shaped[Tensor, "..."]]:
        """Keys and values (..., size, dim) of records."""
        keys, values = self.pool.read(numbers).tensor_split([self.size * self.head_dim], dim=-1)
        return keys.unflatten(-1, (self.size, -1)), values.unflatten(-1, (self.size, -1))

    def records(self, chosen: Chosen) -> Chosen:
        """Numbers of the records of these blocks of every lane ..."""
        return _of_lanes(self.numbers.now, chosen)

    def firsts(self, chosen: Chosen) -> Chosen:
        """... of their first tokens ..."""
        return _of_lanes(self.first.now, chosen)

    def last_places(self, chosen: Chosen) -> Chosen:
        """... their greatest rotary positions ..."""
        return _of_lanes(self.place.now[..., 1], chosen)

    def masses(self, chosen: Chosen) -> Float[Tensor, "lanes sets chosen size"] | None:
        """... and log-masses; None: every entry stands for one token."""
        return None if self.log_mass is None else _entries(self.log_mass, chosen)

    def whens(self, chosen: Chosen) -> Int[Tensor, "lanes sets chosen size"] | None:
        """Numbers of their tokens; None: they follow the first of each."""
        return None if self.when is None else _entries(self.when, chosen)

    def spread(self) -> Int[Tensor, "lanes 1"]:
        """Positions that a block takes up at most."""
        low, high = self.place.now.unbind(-1)
        return (high - low).amax(1, keepdim=True) + 1

    def take(self, chosen: Int[Tensor, " chosen"]) -> "Blocks":
        """The same of some lanes; a pool that is a fifth rubbish then is written anew."""
        known: dict[str, Any] = {name: each.take(chosen) for name, each in self._known.items()}
        made = replace(self, **known)
        if len(chosen.unique()) < len(self.numbers.now):
            left, where = made.numbers.now.unique(return_inverse=True)
            if 5 * len(left) < 4 * made.pool.count:
                pool, numbers = made.pool.anew(left)
                made = replace(made, pool=pool, numbers=Buffer(numbers[where]))
        return made

    def branch(self) -> "Blocks":
        """The same, to which others may be added than to these."""
        whole = torch.arange(len(self.numbers.now), device=self.numbers.now.device)
        return replace(self.take(whole), pool=self.pool.branch())

    def tensors(self) -> dict[str, Tensor]:
        """All but the records, by name, for saving ..."""
        return {name: each.now for name, each in self._known.items() if name != "numbers"}

    def told(self) -> dict[str, Any]:
        """... and what else `restore` needs."""
        told: dict[str, Any] = {"size": self.size, "head_dim": self.head_dim}
        parts: dict[str, Any] = {"where": self.pool.where, "search": self.index.search}
        for name, part in parts.items():
            if part is not None:
                told |= {name: f"{type(part).__module__}:{type(part).__name__}", f"{name}_options": asdict(part)}
        return told

    @classmethod
    def restore(
        cls, tensors: Mapping[str, Tensor], told: Mapping[str, Any], pool: Pool, numbers: Tensor, index: Index
    ) -> "Blocks":
        """The same again, with its records in this pool under these numbers (lanes, blocks), and this index."""
        known: dict[str, Any] = {name: Buffer(each) for name, each in tensors.items() if name in KNOWN[2:]}
        return cls(pool, told["size"], told["head_dim"], numbers=Buffer(numbers), index=index, **known)

    @property
    def _known(self) -> dict[str, Any]:
        """What there is of the buffers."""
        return {name: each for name in KNOWN if (each := getattr(self, name)) is not None}


def _of_lanes(known: Shaped[Tensor, "lanes blocks"], chosen: Chosen) -> Shaped[Tensor, "lanes sets chosen"]:
    return known.gather(1, chosen.flatten(1)).view(chosen.shape)


def _entries(known: Buffer, chosen: Chosen) -> Shaped[Tensor, "lanes sets chosen size"]:
    return known.now[torch.arange(len(chosen), device=chosen.device)[:, None, None], chosen]
