"""Where keys and values of a past are kept: exactly, or in whatever format another store has.

A lane is one key-value head of one row of the batch. All lanes of a store have equally many entries, in order of time.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attime.memory.buffer import Buffer

__all__ = ["Exact", "Store"]

Entries = Float[Tensor, "lanes entries head_dim"]
Queries = Float[Tensor, "lanes queries head_dim"]
Values = Float[Tensor, "lanes entries value_dim"]
Weights = Float[Tensor, "lanes queries entries"]


class Store(ABC):
    """Keys and values of some lanes, in whatever format. Keys are rotated as the model rotated them."""

    @property
    @abstractmethod
    def length(self) -> int:
        """Entries per lane."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes really held, spare room included."""

    @abstractmethod
    def keys(self) -> Entries:
        """All keys, in the model's dtype."""

    @abstractmethod
    def values(self) -> Values:
        """All values, in the model's dtype."""

    @abstractmethod
    def select(self, kept: Int[Tensor, "lanes kept"], *, room: int = 0) -> "Store":
        """A store of these entries, in this order, with room for `room` more."""

    @abstractmethod
    def take(self, chosen: Int[Tensor, " chosen"]) -> "Store":
        """A store of these lanes."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """All that it holds, by name, for saving ..."""

    @classmethod
    @abstractmethod
    def restore(cls, tensors: Mapping[str, Tensor]) -> "Store":
        """... and the store again."""

    def logits(self, q: Queries) -> Weights:
        """q . k for every entry."""
        return torch.bmm(q, self.keys().mT)

    def mixed(self, weights: Weights) -> Float[Tensor, "lanes queries value_dim"]:
        """The weighted sum of the values."""
        return torch.bmm(weights, self.values())


@final
class Exact(Store):
    """Keys and values as they came."""

    def __init__(self, keys: Buffer, values: Buffer) -> None:
        self._keys, self._values = keys, values

    @property
    def length(self) -> int:
        return self._keys.length

    @property
    def nbytes(self) -> int:
        return self._keys.nbytes + self._values.nbytes

    def keys(self) -> Entries:
        return self._keys.now

    def values(self) -> Values:
        return self._values.now

    def append(self, keys: Entries, values: Values) -> None:
        """More entries behind the last."""
        self._keys.append(keys)
        self._values.append(values)

    def change(self, keys: Entries, values: Values) -> None:
        """All entries become these, as many."""
        self._keys.change(keys)
        self._values.change(values)

    def put(self, slot: int, key: Float[Tensor, "lanes head_dim"], value: Float[Tensor, "lanes value_dim"]) -> None:
        """One entry of every lane becomes this one."""
        self._keys.put(slot, key)
        self._values.put(slot, value)

    def cut(self, start: int, stop: int, *, room: int = 0) -> None:
        """Lose these entries of every lane, with room for `room` more."""
        self._keys.cut(start, stop, room=room)
        self._values.cut(start, stop, room=room)

    def select(self, kept: Int[Tensor, "lanes kept"], *, room: int = 0) -> "Exact":
        return Exact(self._keys.select(kept, room=room), self._values.select(kept, room=room))

    def take(self, chosen: Int[Tensor, " chosen"]) -> "Exact":
        return Exact(self._keys.take(chosen), self._values.take(chosen))

    def tensors(self) -> dict[str, Tensor]:
        return {"keys": self.keys(), "values": self.values()}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor]) -> "Exact":
        return cls(Buffer(tensors["keys"]), Buffer(tensors["values"]))
