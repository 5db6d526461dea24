"""Positions: when a token is, as numbers that a model can read."""

from attime.tokens.position.sinusoidal import Sinusoidal

__all__ = ["Sinusoidal"]
