"""Some lanes of a past with equally many entries: where their keys and values are, what is known of them, what can be done."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attime.memory.buffer import Buffer
from attime.memory.parked import Parked
from attime.memory.rotary import Rotary
from attime.memory.store import Exact, Store

__all__ = ["KNOWN", "MOVED", "Bank"]

KNOWN = ("when", "log_mass", "place", "received")
"""Fields of a bank with a number for every entry: they go wherever entries go."""
MOVED = ("shift", "origin")
"""Fields of a bank about its first entries, where these are read as later than they were."""


@dataclass
class Bank:
    """Some lanes that have equally many entries."""

    lanes: Int[Tensor, " lanes"]
    """Their numbers: row * heads + head."""
    stores: list[Store]
    """In order of time; the last one is exact and takes what comes."""
    when: Buffer
    """(lanes, entries): the number of the token in its row, from 0; in 32 bits, so a row has 2^31 tokens at most."""
    log_mass: Buffer | None = None
    """(lanes, entries): log of how many tokens an entry stands for; it is added to its logit. None: one each."""
    place: Buffer | None = None
    """(lanes, entries, 2): least and greatest rotary position over the axes, where there are several; None: `when`."""
    received: Buffer | None = None
    """(lanes, entries): attention that an entry has had, summed over queries and query heads, where a policy asks for it."""
    shift: Float[Tensor, "lanes moved"] | None = None
    """By how many positions the first entries are read as later than they were; None: nobody is moved."""
    origin: Float[Tensor, "lanes moved head_dim"] | None = None
    """Keys of the moved entries as they came, where the exact store holds them turned already (see `move`)."""
    parked: Parked | None = None
    """Earlier entries that are attended only where a query brings them back."""
    near: "Bank | None" = None
    """Copies of some entries, and all that has come since, that are attended in place of all; None: all are."""

    @property
    def length(self) -> int:
        """Entries per lane."""
        return self.when.length

    @property
    def nbytes(self) -> int:
        """Bytes really held, with all that is known of the entries."""
        held = (*self.stores, *self.known.values(), self.shift, self.origin, self.parked, self.near)
        return sum(each.nbytes for each in held if each is not None)

    @property
    def known(self) -> dict[str, Buffer]:
        """What is known of the entries beside keys and values, by name, as far as it is."""
        return {name: each for name in KNOWN if (each := getattr(self, name)) is not None}

    @property
    def exact(self) -> Exact:
        """The store that takes what comes."""
        last = self.stores[-1]
        assert isinstance(last, Exact)
        return last

    def keys(self, first: int | None = None) -> Float[Tensor, "lanes entries head_dim"]:
        """All keys as the model rotated them, or the `first` ones."""
        left = self.length if first is None else first
        if self.origin is not None:
            return torch.cat([self.origin, self.exact.keys()[:, self.origin.shape[1] :]], dim=1)[:, :left]
        if first is None and len(self.stores) == 1:
            return self.stores[0].keys()
        found = list[Tensor]()
        for store in self.stores:
            if left > 0 or not found:
                found.append(store.keys()[:, :left])
                left -= store.length
        return found[0] if len(found) == 1 else torch.cat(found, dim=1)

    def values(self) -> Float[Tensor, "lanes entries value_dim"]:
        """All values."""
        return self.stores[0].values() if len(self.stores) == 1 else torch.cat([s.values() for s in self.stores], dim=1)

    def positions(self, *, greatest: bool = False) -> Int[Tensor, "lanes entries"]:
        """Where the entries were rotated to; where positions have several axes, the least of them, or the greatest."""
        return self.when.now if self.place is None else self.place.now[..., int(greatest)]

    def append(self, keys: Tensor, values: Tensor, when: Tensor, place: Tensor | None) -> None:
        """What has just come, behind everything else; it stands for itself and has had no attention."""
        if self.near is not None:
            self.near.append(keys, values, when, place)
        self.exact.append(keys, values)
        self.when.append(when)
        if self.place is not None and place is not None:
            self.place.append(place)
        for known in (self.log_mass, self.received):
            if known is not None:
                known.append(known.now.new_zeros(len(keys), keys.shape[1]))

    def move(self, shift: Float[Tensor, "lanes moved"] | None, rotate: Rotary) -> None:
        """Read the first entries as later by `shift`; None moves everybody back.

        Keys of a single exact store are turned once, from what they were when they came; others, and keys through which
        gradients flow, whenever they are read.
        """
        self._move_back()
        self.shift = shift
        learning = torch.is_grad_enabled() and self.exact.keys().requires_grad
        if shift is not None and len(self.stores) == 1 and not learning:
            first = self.exact.keys()[:, : shift.shape[1]]
            self.origin = first.clone()
            first.copy_(rotate(self.origin, shift))
        if self.near is not None:
            slots = torch.searchsorted(self.when.now.contiguous(), self.near.when.now.contiguous())
            keys, values = self._as_read(rotate), self.near.exact.values()
            self.near.stores = [Exact(Buffer(keys.take_along_dim(slots[..., None], dim=1)), Buffer(values))]

    def stand(self) -> None:
        """Everybody stands where they came, and all are attended."""
        self._move_back()
        self.shift = self.near = None

    def select(self, kept: Int[Tensor, "lanes kept"], *, room: int = 0) -> "Bank":
        """The bank of these entries, whose numbers rise in every lane; every lane keeps equally many of each store.

        Nobody is moved in it.
        """
        self._move_back()
        stores, start = [], 0
        for store in self.stores:
            inside = (kept >= start) & (kept < start + store.length)
            count = int(inside[0].sum())
            last = store is self.stores[-1]
            if count or last:
                stores.append(store.select(kept[inside].view(len(kept), count) - start, room=room if last else 0))
            start += store.length
        return replace(
            self,
            stores=stores,
            shift=None,
            origin=None,
            near=None,
            **self._known(lambda each: each.select(kept, room=room)),
        )

    def cut(self, start: int, stop: int, *, room: int = 0) -> "Bank":
        """The bank without these entries of every lane: itself, where all are in one exact store, or none goes.

        Nobody is moved in it, unless none goes: then all stays as it was, with the room.
        """
        if stop <= start:
            start = stop = 0
        elif len(self.stores) > 1:
            slots = torch.arange(self.length, device=self.lanes.device)
            kept = slots[(slots < start) | (slots >= stop)]
            return self.select(kept.expand(len(self.lanes), -1), room=room)
        else:
            self.stand()
        self.exact.cut(start, stop, room=room)
        for each in self.known.values():
            each.cut(start, stop, room=room)
        return self

    def some(self, kept: Int[Tensor, "lanes kept"], rotate: Rotary | None, *, room: int = 0) -> "Bank":
        """Exact copies of these entries as they are read now, for `near`."""
        read = self._as_read(rotate), self.values()
        exact = Exact(*(Buffer(each.take_along_dim(kept[..., None], dim=1), room=room) for each in read))
        return Bank(lanes=self.lanes, stores=[exact], **self._known(lambda each: each.select(kept, room=room)))

    def keep_in(self, other: Callable[[list[Store]], list[Store]]) -> None:
        """The same entries in other stores; whoever is moved stays so, and is turned when read."""
        shift = self.shift
        self._move_back()
        self.stores, self.shift = other(self.stores), shift

    def put(self, slot: int, key: Float[Tensor, "lanes head_dim"], value: Float[Tensor, "lanes value_dim"]) -> None:
        """The entry in this slot of every lane becomes this one, kept exactly; its key is as the model would rotate it.

        Whoever is moved stays so, and is turned when read. `near` is gone where a lane loses what the entry now stands for.
        """
        self.keep_in(lambda stores: stores)
        number, inside = 0, slot
        while inside >= self.stores[number].length:
            inside -= self.stores[number].length
            number += 1
        store = self.stores[number]
        if isinstance(store, Exact):
            store.put(inside, key, value)
            return
        here = torch.arange(store.length, device=self.lanes.device).expand(len(self.lanes), -1)
        like = self.exact.keys().dtype
        parts: list[Store] = [Exact(Buffer(key[:, None].to(like)), Buffer(value[:, None].to(like)))]
        if inside:
            parts.insert(0, store.select(here[:, :inside]))
        if inside + 1 < store.length:
            parts.append(store.select(here[:, inside + 1 :]))
        self.stores = [*self.stores[:number], *parts, *self.stores[number + 1 :]]

    def take(self, chosen: Int[Tensor, " chosen"]) -> "Bank":
        """The bank of some of its lanes."""
        known = self._known(lambda each: each.take(chosen))
        moved = {name: None if (each := getattr(self, name)) is None else each[chosen] for name in MOVED}
        stores = [store.take(chosen) for store in self.stores]
        parked = None if self.parked is None else self.parked.take(chosen)
        near = None if self.near is None else self.near.take(chosen)
        return Bank(lanes=self.lanes[chosen], stores=stores, parked=parked, near=near, **moved, **known)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Bank":
        own: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        made: dict[str, Any] = {
            name: each.clone() if isinstance(each, Tensor) else copy.deepcopy(each, memo) for name, each in own.items()
        }
        return Bank(**made)

    def _move_back(self) -> None:
        """Keys as they came, where they had been turned in their store."""
        if self.origin is not None:
            self.exact.keys()[:, : self.origin.shape[1]] = self.origin
            self.shift, self.origin = None, None

    def _as_read(self, rotate: Rotary | None) -> Float[Tensor, "lanes entries head_dim"]:
        """All keys at the positions at which they are read now."""
        if self.origin is not None:
            return self.exact.keys()
        keys = self.keys()
        if self.shift is None:
            return keys
        assert rotate is not None
        moved = self.shift.shape[1]
        return torch.cat([rotate(keys[:, :moved], self.shift), keys[:, moved:]], dim=1)

    def _known(self, change: Callable[[Buffer], Buffer]) -> dict[str, Any]:
        return {name: change(each) for name, each in self.known.items()}
