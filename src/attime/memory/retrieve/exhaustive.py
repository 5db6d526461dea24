"""The search that compares every query with every key.

Source:  IndexFlatIP of LongMem, arXiv 2306.07174, sec. 2.3.
Cost:    head_dim products per query and key, as one product of matrices; the keys.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from jaxtyping import Float
from torch import Tensor

from attime.memory.index import Scanned
from attime.memory.retrieve.contract import Search

__all__ = ["Exhaustive"]


@final
@dataclass(frozen=True, kw_only=True)
class Exhaustive(Search):
    """Exact inner products, on the device that the keys are on (see the module docstring)."""

    def open(self, keys: Float[Tensor, "lanes keys head_dim"]) -> Scanned:
        return Scanned(keys)

    @classmethod
    def examples(cls) -> Sequence["Exhaustive"]:
        return [cls()]
