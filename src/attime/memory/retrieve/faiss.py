r"""Search by an index of the library faiss: one per lane, by inner product.

    factory="Flat": every key is compared      "HNSW32,Flat": a graph of neighbours is followed, and some are missed

Source:  faiss (IndexFlatIP per head), as in LongMem, arXiv 2306.07174, sec. 2.3; HNSW, arXiv 1603.09320.
Names:   our `factory` is the library's own string for a kind of index.
Cost:    keys in float32 in the memory of the CPU; a graph costs some 2 * 32 * 4 bytes per key more, and is made anew when
         the oldest keys go.
Differs: kinds that must be trained before they take keys are refused, since a memory begins empty. Where a graph finds
         fewer than asked for, all keys are compared. A copy, and a past that was saved, build a graph of their own, which may
         miss other keys.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from attime.errors import AttimeError, MissingExtra
from attime.memory.index import Index, Scanned
from attime.memory.retrieve.contract import Search

__all__ = ["Faiss"]


@final
@dataclass(frozen=True, kw_only=True)
class Faiss(Search):
    """An index of faiss for every lane (see the module docstring)."""

    factory: str = "Flat"
    parameters: str = ""
    """What the library calls search-time parameters, such as "efSearch=128": how much of a graph is looked at."""

    def open(self, keys: Float[Tensor, "lanes keys head_dim"]) -> "_Found":
        return _Found(self, keys)

    def kind(self, head_dim: int) -> Any:
        """An empty index of this kind; MissingExtra without the library."""
        library = _faiss()
        try:
            made = library.index_factory(head_dim, self.factory, library.METRIC_INNER_PRODUCT)
            if self.parameters:
                library.ParameterSpace().set_index_parameters(made, self.parameters)
        except RuntimeError:
            made = None
        if made is None or not made.is_trained:
            raise AttimeError(
                f"Faiss needs a factory string of faiss for an index that takes keys untrained, such as 'Flat' or "
                f"'HNSW32,Flat', and parameters that it has; got {self} for keys of {head_dim} numbers."
            )
        return made

    @classmethod
    def examples(cls) -> Sequence["Faiss"]:
        return [cls(), cls(factory="HNSW16,Flat", parameters="efSearch=64")]


@final
class _Found(Index):
    def __init__(self, search: Faiss, keys: Tensor) -> None:
        self.search = self._made_by = search
        self._like = keys[:0, :0]
        self._kinds = [search.kind(keys.shape[2]) for _ in range(len(keys))]
        self.append(keys)

    @property
    def now(self) -> Float[Tensor, "lanes keys head_dim"]:
        keys = [kind.reconstruct_n(0, kind.ntotal) for kind in self._kinds]
        return torch.from_numpy(np.stack(keys)).to(self._like)

    @property
    def nbytes(self) -> int:
        return sum(len(_faiss().serialize_index(kind)) for kind in self._kinds)

    def append(self, new: Float[Tensor, "lanes new head_dim"]) -> None:
        for kind, keys in zip(self._kinds, _numbers(new), strict=True):
            kind.add(keys)

    def forget(self, oldest: int) -> None:
        for kind in self._kinds:
            kept = kind.reconstruct_n(oldest, kind.ntotal - oldest)
            kind.reset()
            kind.add(kept)

    def take(self, chosen: Int[Tensor, " chosen"]) -> "_Found":
        return _Found(self._made_by, self.now[chosen])

    def nearest(
        self, queries: Float[Tensor, "lanes queries head_dim"], most: int
    ) -> Int[Tensor, "lanes queries found"]:
        most = min(most, self._kinds[0].ntotal)
        found = [kind.search(asked, most)[1] for kind, asked in zip(self._kinds, _numbers(queries), strict=True)]
        numbers = torch.from_numpy(np.stack(found)).to(queries.device)
        missed = (numbers < 0).any(2, keepdim=True)
        return torch.where(missed, Scanned(self.now).nearest(queries, most), numbers) if missed.any() else numbers


def _numbers(keys: Tensor) -> Any:
    return np.ascontiguousarray(keys.detach().float().cpu().numpy())


def _faiss() -> Any:
    try:
        import faiss
    except ModuleNotFoundError:
        raise MissingExtra("faiss-cpu", "index", "search by an index of faiss") from None
    return faiss
