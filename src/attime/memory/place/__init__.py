"""Family place: which positions the entries of a past are read at."""

from attime.memory.place.contiguous import Contiguous

__all__ = ["Contiguous"]
