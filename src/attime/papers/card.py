"""A paper's card and its verdict: a paper is a claim that runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Paper", "Verdict"]


@dataclass(frozen=True, kw_only=True)
class Paper:
    """What the paper is and which parts of the house realise it."""

    number: int
    title: str
    url: str
    parts: tuple[type | object, ...]
    """Classes or functions of attime that realise the paper."""
    bibtex: str = ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether the claim held in this run, the numbers that say so, and why if it did not."""

    holds: bool
    numbers: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
