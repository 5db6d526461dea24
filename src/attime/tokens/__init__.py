"""Room tokens: from data to tokens, and fewer of them. Patches, positions, reducers."""

from attime.tokens.contract import Patcher, Positions, Reduced, Reducer, Traits

__all__ = ["Patcher", "Positions", "Reduced", "Reducer", "Traits"]
