"""Keys of parked blocks, and who of them is nearest to a query by inner product: exactly, or as a library's index finds them."""

from abc import ABC, abstractmethod
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attime.memory.buffer import Buffer
from attime.part import Part

__all__ = ["Index", "Scanned"]

Keys = Float[Tensor, "lanes keys head_dim"]


class Index(ABC):
    """Keys of some lanes, in order of time, all lanes equally many."""

    search: Part | None = None
    """The search that made it: its `open` makes another. None: every key is compared."""

    @property
    @abstractmethod
    def now(self) -> Keys:
        """The keys."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes held, spare room included."""

    @abstractmethod
    def append(self, new: Keys) -> None:
        """More keys behind the last."""

    @abstractmethod
    def forget(self, oldest: int) -> None:
        """Lose so many of the first keys of every lane; the others count from 0 again."""

    @abstractmethod
    def take(self, chosen: Int[Tensor, " chosen"]) -> "Index":
        """An index of these lanes."""

    @abstractmethod
    def nearest(
        self, queries: Float[Tensor, "lanes queries head_dim"], most: int
    ) -> Int[Tensor, "lanes queries found"]:
        """The keys with the largest products, at most `most` and there are as many, in any order."""


@final
class Scanned(Index):
    """Every key is compared with every query: exact."""

    def __init__(self, keys: Keys) -> None:
        self._keys = Buffer(keys)

    @property
    def now(self) -> Keys:
        return self._keys.now

    @property
    def nbytes(self) -> int:
        return self._keys.nbytes

    def append(self, new: Keys) -> None:
        self._keys.append(new)

    def forget(self, oldest: int) -> None:
        self._keys = Buffer(self.now[:, oldest:])

    def take(self, chosen: Int[Tensor, " chosen"]) -> "Scanned":
        return Scanned(self.now[chosen])

    def nearest(
        self, queries: Float[Tensor, "lanes queries head_dim"], most: int
    ) -> Int[Tensor, "lanes queries found"]:
        return torch.bmm(queries, self.now.mT).topk(min(most, self._keys.length), dim=2, sorted=False).indices
