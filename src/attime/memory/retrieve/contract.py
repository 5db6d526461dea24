"""What a place for parked blocks is: it makes pools. What a search among them is: it makes indices."""

from abc import abstractmethod
from typing import ClassVar

from jaxtyping import Float, Shaped
from torch import Tensor

from attime.given import Given
from attime.memory.contract import Traits
from attime.memory.index import Index
from attime.memory.pool import Pool
from attime.part import Part

__all__ = ["Search", "Where"]


class Where(Given, Part):
    """A frozen, keyword-only dataclass of plain options, so that a saved past knows where it was."""

    traits: ClassVar[Traits] = Traits(acts=False)

    @abstractmethod
    def open(self, like: Shaped[Tensor, "any width"]) -> Pool:
        """An empty pool for records of this width, dtype and device."""


class Search(Given, Part):
    """A frozen, keyword-only dataclass of plain options."""

    traits: ClassVar[Traits] = Traits(acts=False)

    @abstractmethod
    def open(self, keys: Float[Tensor, "lanes keys head_dim"]) -> Index:
        """An index of these keys, which may be none, for others of their width, dtype and device."""
