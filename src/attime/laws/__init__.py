"""Conformance laws, shipped, so that users can check their own parts: `attime check my_module:MyMixer`."""

from attime.laws.cases import cases, laws_of, parts_of
from attime.laws.contract import Law, pairs

__all__ = ["Law", "cases", "laws_of", "pairs", "parts_of"]
