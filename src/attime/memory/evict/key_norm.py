"""The shorter a key, the more attention it tends to get: entries with short keys stay.

    score = -||k||

Source:  A simple and effective L2 norm-based strategy for KV cache compression, arXiv 2406.11430, sec. 3.
Cost:    no evidence: the keys are all it looks at.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from attime.memory.evict.contract import Rates, Score
from attime.memory.past import Past

__all__ = ["KeyNorm"]


@final
@dataclass(frozen=True, kw_only=True)
class KeyNorm(Score):
    """Keeps entries with short keys (see the module docstring)."""

    def rate(self, past: Past) -> Rates:
        return [-bank.keys().norm(dim=-1) for bank in past.banks]

    @classmethod
    def examples(cls) -> Sequence["KeyNorm"]:
        return [cls()]
