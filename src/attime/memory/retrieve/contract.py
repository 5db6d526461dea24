"""What a place for parked blocks is: it makes pools."""

from abc import abstractmethod
from typing import ClassVar

from jaxtyping import Shaped
from torch import Tensor

from attime.memory.contract import Traits
from attime.memory.pool import Pool
from attime.part import Part

__all__ = ["Where"]


class Where(Part):
    """A frozen, keyword-only dataclass of plain options, so that a saved past knows where it was."""

    traits: ClassVar[Traits] = Traits(acts=False)

    @abstractmethod
    def open(self, like: Shaped[Tensor, "any width"]) -> Pool:
        """An empty pool for records of this width, dtype and device."""
