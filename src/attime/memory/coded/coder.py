"""A past as a bit stream: what `cache.save(path, coder=Coder())` writes in place of exact keys and values.

Chunks of tokens are streams of their own, so that they can be sent one after the other, each at a level of its own.

Source:  CacheGen, arXiv 2310.07240, sec. 5 and 6 (chunks of some 1500 tokens).
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from attime.errors import AttimeError
from attime.memory.buffer import Buffer
from attime.memory.coded.level import Codes, Level
from attime.memory.coded.symbols import Tables, packed, read_codes, unpacked, write_codes
from attime.memory.past import Bank, Past
from attime.memory.store import Entries, Exact, Store

__all__ = ["Coded", "Coder"]

NAMES = ("keys", "values")


@final
class Coded(Store):
    """Keys and values as bits; whoever reads them decodes them, and `restore` gives an exact store of the decoded numbers."""

    def __init__(self, held: Mapping[str, Tensor]) -> None:
        self._held = dict(held)

    @property
    def nbytes(self) -> int:
        return sum(each.nbytes for each in self._held.values())

    @property
    def length(self) -> int:
        return int(self._held["sizes"][1])

    def keys(self) -> Entries:
        return self.codes("keys").decode(self._held["like"])

    def values(self) -> Entries:
        return self.codes("values").decode(self._held["like"])

    def select(self, kept: Int[Tensor, "lanes kept"], *, room: int = 0) -> Exact:
        return self.restore(self._held).select(kept, room=room)

    def take(self, chosen: Int[Tensor, " chosen"]) -> Exact:
        return self.restore(self._held).take(chosen)

    @property
    def chunks(self) -> list[int]:
        """Bytes of each chunk, keys and values, with its scales; without the tables, which are sent once."""
        words = sum((self._held[f"{name}.words"] for name in NAMES), torch.zeros(()))
        lanes, entries, size = (int(each) for each in self._held["sizes"][:3])
        return [4 * int(each) + 2 * 2 * lanes * min(size, entries - size * i) for i, each in enumerate(words)]

    def tensors(self) -> dict[str, Tensor]:
        return self._held

    def codes(self, name: str) -> Codes:
        """The decoded codes of "keys" or "values", all chunks together."""
        _, entries, chunk, group, *bins = (int(each) for each in self._held["sizes"])
        heads, own = self._held["heads"], {key: self._held[f"{name}.{key}"] for key in ("words", "stream", "width")}
        kinds, width = len(heads.unique()), int(own["width"])
        counts = unpacked(self._held[f"{name}.counts"], np.uint8, (kinds, width, bins[NAMES.index(name)] - 1))
        tables = Tables(counts, self._held[f"{name}.normal"].numpy())
        streams = np.split(own["stream"].numpy().view(np.uint32), np.cumsum(own["words"].numpy())[:-1])
        found = []
        for number, stream in enumerate(streams):
            time = min(chunk, entries - chunk * number)
            groups = -(-time // group) if group else 0
            found.append(read_codes(stream, groups, time - groups, heads, tables))
        anchors, others = (torch.cat(each, dim=1) for each in zip(*found, strict=True))
        scales = (self._held[f"{name}.anchor_scale"], self._held[f"{name}.other_scale"])
        return Codes(anchors, others, *scales, bins[NAMES.index(name)], group)

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor]) -> Exact:
        coded = cls(tensors)
        return Exact(Buffer(coded.keys()), Buffer(coded.values()))


@final
@dataclass(frozen=True, kw_only=True)
class Coder:
    """Codes exact stores at a level, in chunks."""

    level: Level = field(default_factory=Level)
    chunk: int = 1500

    def __post_init__(self) -> None:
        if self.chunk < 1 or (self.level.group and self.chunk % self.level.group):
            raise AttimeError(
                f"Coder needs a chunk that is a multiple of the level's group of {self.level.group} tokens; got {self.chunk}."
            )

    def bank(self, bank: Bank, past: Past) -> Bank:
        """The bank with its exact stores as bits, for saving; keys as they came, wherever they are read."""
        if bank.origin is not None:
            bank = copy.deepcopy(bank)
            bank.keep_in(lambda stores: stores)
        heads, depth = bank.lanes.cpu() % past.heads, past.layer / past.layers
        stores = [
            self.encode(each.keys(), each.values(), heads=heads, depth=depth) if isinstance(each, Exact) else each
            for each in bank.stores
        ]
        return replace(bank, stores=stores)

    def encode(
        self,
        keys: Float[Tensor, "lanes entries key_dim"],
        values: Float[Tensor, "lanes entries value_dim"],
        *,
        heads: Int[Tensor, " lanes"],
        depth: float,
    ) -> Coded:
        """Keys and values of these heads at this depth (0 to 1) as bits."""
        bins = [self.level.bins(name, depth) for name in NAMES]
        held = {"sizes": torch.tensor([*keys.shape[:2], self.chunk, self.level.group, *bins]), "heads": heads}
        held["like"] = torch.empty(0, dtype=keys.dtype)
        for name, each, steps in zip(NAMES, (keys, values), bins, strict=True):
            parts = [self.level.encode(part, steps) for part in each.detach().cpu().split(self.chunk, dim=1)]
            fine, coarse = (
                torch.cat(codes, dim=1) for codes in zip(*((p.anchors, p.others) for p in parts), strict=True)
            )
            tables = Tables.of(fine, coarse, heads, steps)
            streams = [write_codes(part.anchors, part.others, heads, tables) for part in parts]
            held |= {
                f"{name}.stream": torch.from_numpy(np.concatenate(streams).view(np.uint8).copy()),
                f"{name}.words": torch.tensor([len(stream) for stream in streams]),
                f"{name}.counts": packed(tables.counts),
                f"{name}.normal": torch.from_numpy(tables.normal),
                f"{name}.width": torch.tensor(each.shape[2]),
                f"{name}.anchor_scale": torch.cat([part.anchor_scale for part in parts], dim=1),
                f"{name}.other_scale": torch.cat([part.other_scale for part in parts], dim=1),
            }
        return Coded(held)
