"""Reducers: fewer tokens in the same order, which say what they stand for."""

from attime.tokens.reduce.keep_changes import KeepChanges
from attime.tokens.reduce.merge_similar import MergeSimilar

__all__ = ["KeepChanges", "MergeSimilar"]
