"""Linear attention: a matrix of fixed size is all that is kept of the past."""

from attime.attention.linear.decay import Decay

__all__ = ["Decay"]
