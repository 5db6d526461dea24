"""Family merge: what leaves the budget lives on in what stays."""

from attime.memory.merge.convolution import Convolution, Mixing
from attime.memory.merge.nearest import Nearest

__all__ = ["Convolution", "Mixing", "Nearest"]
