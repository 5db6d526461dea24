"""Entries of two widths that lie between each other in time: two stores, and where in them each entry is.

Source:  the need of ZipCache, arXiv 2405.14256: what is salient has more bits than its neighbours.
Cost:    4 bytes for an entry; reading gathers logits and scatters weights, nothing else is done twice.
Differs: where lanes keep different numbers of salient entries (after eviction), the shorter ones are filled up with entries
         that nobody reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from attime.memory.quantize.quantized import Quantized
from attime.memory.store import Entries, Queries, Store, Weights

__all__ = ["Interleaved"]


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Interleaved(Store):
    """Two stores of codes whose entries alternate as they like (see the module docstring)."""

    high: Quantized
    low: Quantized
    place: Int[Tensor, "lanes entries"]
    """Each entry's number: in `high`, or in `low` and then below zero (-1 is its first)."""

    @classmethod
    def of(
        cls, keys: Entries, values: Entries, *, salient: Bool[Tensor, "lanes entries"], bits: tuple[int, int]
    ) -> "Interleaved":
        """All in one group; equally many are salient in every lane, at least one, and not all."""
        sides = []
        for mask, width in zip((salient, ~salient), bits, strict=True):
            count = int(mask[0].sum())
            here = (each[mask].view(len(each), count, -1) for each in (keys, values))
            sides.append(Quantized.of(*here, bits=width, group=count, separable=True))
        return cls(high=sides[0], low=sides[1], place=_place(salient))

    @property
    def length(self) -> int:
        return self.place.shape[1]

    @property
    def nbytes(self) -> int:
        return self.high.nbytes + self.low.nbytes + self.place.nbytes

    def keys(self) -> Entries:
        return self._woven(self.high.keys(), self.low.keys())

    def values(self) -> Entries:
        return self._woven(self.high.values(), self.low.values())

    def logits(self, q: Queries) -> Weights:
        both = torch.cat([self.high.logits(q), self.low.logits(q)], dim=2)
        return both.gather(2, self._slot()[:, None].expand(-1, q.shape[1], -1))

    def mixed(self, weights: Weights) -> Queries:
        lengths = [self.high.length, self.low.length]
        spread = weights.new_zeros(*weights.shape[:2], sum(lengths))
        spread.scatter_(2, self._slot()[:, None].expand_as(weights), weights)
        high, low = spread.split(lengths, dim=2)
        return self.high.mixed(high) + self.low.mixed(low)

    def alike(self, later: Store) -> bool:
        """Both sides have as many bits there."""
        return isinstance(later, Interleaved) and self.high.alike(later.high) and self.low.alike(later.low)

    def join(self, later: "Interleaved") -> "Interleaved":
        """These entries, and behind them those of a store of as many bits."""
        moved = later.place + torch.where(later.place < 0, -self.low.length, self.high.length).int()
        place = torch.cat([self.place, moved], dim=1)
        return Interleaved(high=self.high.join(later.high), low=self.low.join(later.low), place=place)

    def select(self, kept: Int[Tensor, "lanes kept"], *, room: int = 0) -> Store:
        place = self.place.gather(1, kept)
        sides = []
        for store, inside, number in ((self.high, place >= 0, place), (self.low, place < 0, -1 - place)):
            most = int(inside.sum(1).max())
            if not most:
                other = self.low if store is self.high else self.high
                return other.select((-1 - place if store is self.high else place).long())
            first = inside.int().argsort(dim=1, descending=True, stable=True)[:, :most]
            sides.append(store.select(number.gather(1, first).clamp(min=0, max=store.length - 1).long()))
        return Interleaved(high=sides[0], low=sides[1], place=_place(place >= 0))

    def take(self, chosen: Int[Tensor, " chosen"]) -> "Interleaved":
        return Interleaved(high=self.high.take(chosen), low=self.low.take(chosen), place=self.place[chosen])

    def tensors(self) -> dict[str, Tensor]:
        sides = {"high": self.high, "low": self.low}
        told = {f"{side}.{name}": each for side, store in sides.items() for name, each in store.tensors().items()}
        return {"place": self.place, **told}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor]) -> "Interleaved":
        sides = {
            side: Quantized.restore(
                {name.removeprefix(f"{side}."): each for name, each in tensors.items() if name.startswith(f"{side}.")}
            )
            for side in ("high", "low")
        }
        return cls(place=tensors["place"], **sides)

    def _slot(self) -> Int[Tensor, "lanes entries"]:
        """Each entry's number where the high ones come first and the low ones behind them."""
        return torch.where(self.place < 0, self.high.length - 1 - self.place, self.place).long()

    def _woven(self, high: Tensor, low: Tensor) -> Entries:
        return torch.cat([high, low], dim=1).take_along_dim(self._slot()[..., None], dim=1)


def _place(salient: Bool[Tensor, "lanes entries"]) -> Int[Tensor, "lanes entries"]:
    """Numbers of entries that lie in order in their stores."""
    return torch.where(salient, salient.cumsum(1) - 1, -(~salient).cumsum(1)).int()
