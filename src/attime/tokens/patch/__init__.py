"""Patches: pieces of data as tokens, and the data back from them."""

from attime.tokens.patch.grid import GridPatches
from attime.tokens.patch.series import SeriesPatches

__all__ = ["GridPatches", "SeriesPatches"]
