"""The past of one layer: entries of every lane, what is known of them, and the verbs by which policies change it.

A lane is one key-value head of one row. Lanes with equally many entries lie together in a bank, so a past in which heads
keep different numbers of tokens is a few rectangles, and what is dropped is really freed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attime.memory.buffer import Buffer
from attime.memory.store import Exact, Store

__all__ = ["Bank", "Past", "Rotate"]

Rotate = Callable[[Tensor, Tensor], Tensor]
"""Turns keys (lanes, entries, head_dim) onwards by (lanes, entries) positions, as the model's rotary embedding would."""


@dataclass
class Bank:
    """Some lanes that have equally many entries."""

    lanes: Int[Tensor, " lanes"]
    """Their numbers: row * heads + head."""
    stores: list[Store]
    """In order of time; the last one is exact and takes what comes."""
    when: Buffer
    """(lanes, entries): the number of the token in its row, from 0."""
    log_mass: Buffer | None = None
    """(lanes, entries): log of how many tokens an entry stands for; it is added to its logit. None: one each."""
    place: Buffer | None = None
    """(lanes, entries, 2): least and greatest rotary position over the axes, where there are several; None: `when`."""
    received: Buffer | None = None
    """(lanes, entries): attention that an entry has had, summed over queries and query heads, where a policy asks for it."""
    shift: Float[Tensor, "lanes moved"] | None = None
    """By how many positions the first entries are read as later than they were; None: nobody is moved."""

    @property
    def length(self) -> int:
        """Entries per lane."""
        return self.when.length

    @property
    def nbytes(self) -> int:
        """Bytes really held, with all that is known of the entries."""
        known = (self.when, self.log_mass, self.place, self.received, self.shift)
        return sum(store.nbytes for store in self.stores) + sum(each.nbytes for each in known if each is not None)

    @property
    def exact(self) -> Exact:
        """The store that takes what comes."""
        last = self.stores[-1]
        assert isinstance(last, Exact)
        return last

    def keys(self) -> Float[Tensor, "lanes entries head_dim"]:
        """All keys as the model rotated them."""
        return self.stores[0].keys() if len(self.stores) == 1 else torch.cat([s.keys() for s in self.stores], dim=1)

    def values(self) -> Float[Tensor, "lanes entries head_dim"]:
        """All values."""
        return self.stores[0].values() if len(self.stores) == 1 else torch.cat([s.values() for s in self.stores], dim=1)

    def append(self, keys: Tensor, values: Tensor, when: Tensor, place: Tensor | None) -> None:
        """What has just come, behind everything else; it stands for itself and has had no attention."""
        self.exact.append(keys, values)
        self.when.append(when)
        if self.place is not None and place is not None:
            self.place.append(place)
        for known in (self.log_mass, self.received):
            if known is not None:
                known.append(known.now.new_zeros(len(keys), keys.shape[1]))

    def select(self, kept: Int[Tensor, "lanes kept"], *, room: int = 0) -> "Bank":
        """The bank of these entries, whose numbers rise in every lane; every lane keeps equally many of each store."""
        stores, start = [], 0
        for store in self.stores:
            inside = (kept >= start) & (kept < start + store.length)
            count = int(inside[0].sum())
            last = store is self.stores[-1]
            if count or last:
                stores.append(store.select(kept[inside].view(len(kept), count) - start, room=room if last else 0))
            start += store.length
        return replace(self, stores=stores, shift=None, **self._known(lambda each: each.select(kept, room=room)))

    def take(self, chosen: Int[Tensor, " chosen"]) -> "Bank":
        """The bank of some of its lanes."""
        known = self._known(lambda each: each.lanes(chosen))
        shift = None if self.shift is None else self.shift[chosen]
        return Bank(
            lanes=self.lanes[chosen], stores=[store.lanes(chosen) for store in self.stores], shift=shift, **known
        )

    def _known(self, change: Callable[[Buffer], Buffer]) -> dict[str, Any]:
        named = {name: getattr(self, name) for name in ("when", "log_mass", "place", "received")}
        return {name: None if each is None else change(each) for name, each in named.items()}


@dataclass
class Past:
    """What one layer has kept of rows that share their time."""

    heads: int
    """Key-value heads."""
    layer: int = 0
    layers: int = 1
    banks: list[Bank] = field(default_factory=list)
    seen: int = 0
    """Tokens that have come, kept or not."""
    queries: Buffer | None = None
    """(lanes, recent, query heads of the lane, head_dim): the last queries, where a policy asks for them."""
    rotate: Rotate | None = None
    """None where the model has no rotary positions."""

    @property
    def lanes(self) -> int:
        """Rows times key-value heads."""
        return sum(len(bank.lanes) for bank in self.banks)

    @property
    def nbytes(self) -> int:
        """Bytes really held."""
        return sum(bank.nbytes for bank in self.banks) + (0 if self.queries is None else self.queries.nbytes)

    def kept(self) -> Int[Tensor, " lanes"]:
        """Entries of every lane."""
        counts = torch.zeros(self.lanes, dtype=torch.long)
        for bank in self.banks:
            counts[bank.lanes.cpu()] = bank.length
        return counts

    def append(
        self,
        keys: Float[Tensor, "lanes new head_dim"],
        values: Float[Tensor, "lanes new value_dim"],
        place: Int[Tensor, "lanes new 2"] | None = None,
    ) -> None:
        """What has just come, behind everything else; `place` only where rotary positions have several axes."""
        lanes, new = keys.shape[:2]
        if not self.banks:
            whole = torch.arange(lanes, device=keys.device)
            nothing = Buffer(torch.zeros(lanes, 0, dtype=torch.long, device=keys.device))
            stores: list[Store] = [Exact(Buffer(keys[:, :0]), Buffer(values[:, :0]))]
            placed = None if place is None else Buffer(place[:, :0])
            self.banks = [Bank(lanes=whole, stores=stores, when=nothing, place=placed)]
        came = torch.arange(self.seen, self.seen + new, device=keys.device)
        for bank in self.banks:
            own = slice(None) if len(self.banks) == 1 else bank.lanes
            where = None if place is None else place[own]
            bank.append(keys[own], values[own], came.expand(len(bank.lanes), -1), where)
        self.seen += new

    def drop(self, keep: Sequence[Bool[Tensor, "lanes entries"]], *, room: int = 0) -> None:
        """Free every entry whose mask (one per bank) is False; lanes that keep different numbers part ways."""
        banks = []
        for bank, mask in zip(self.banks, keep, strict=True):
            counts = torch.stack([part.sum(1) for part in mask.split([s.length for s in bank.stores], dim=1)], dim=1)
            for pattern in sorted(set(map(tuple, counts.tolist()))):
                chosen = (counts == counts.new_tensor(pattern)).all(1).nonzero()[:, 0]
                part = bank if len(chosen) == len(mask) else bank.take(chosen)
                kept = mask[chosen].nonzero()[:, 1].view(len(chosen), sum(pattern))
                banks.append(part.select(kept, room=room))
        self.banks = banks

    def rows(self, chosen: Int[Tensor, " rows"]) -> "Past":
        """The past of these rows, which may repeat: for beams, and for rows that part ways."""
        lanes = (chosen[:, None] * self.heads + torch.arange(self.heads, device=chosen.device)).flatten()
        banks = []
        for bank in self.banks:
            place = torch.full((self.lanes,), -1, device=chosen.device).scatter(
                0, bank.lanes, torch.arange(len(bank.lanes), device=chosen.device)
            )[lanes]
            here = (place >= 0).nonzero()[:, 0]
            if len(here):
                banks.append(replace(bank.take(place[here]), lanes=here))
        return replace(self, banks=banks, queries=None if self.queries is None else self.queries.lanes(lanes))
