"""What is no longer recent is kept in few bits: keys by channel, values by token, each of them quantised once.

Source:  KIVI, arXiv 2402.02750, alg. 1 (a residual of recent tokens stays exact, keys are quantised in groups of tokens).
Names:   `every` is both their residual's step and their group size.
Cost:    bits / 8 bytes for a number, 4 / every more in keys and 4 / head_dim more in values.
Differs: sinks stay exact too; values are quantised together with their keys, and not a token at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from attime.memory.contract import Policy
from attime.memory.past import Past
from attime.memory.quantize.contract import check_bits, check_dims, settle
from attime.memory.quantize.quantized import Quantized
from attime.memory.store import Entries, Store

__all__ = ["Quantize"]


@final
@dataclass(frozen=True, kw_only=True)
class Quantize(Policy):
    """All but sinks and recent tokens in 2, 4 or 8 bits (see the module docstring)."""

    bits: int = 4
    sinks: int = 4
    recent: int = 60
    """The last ones, which stay exact; up to `every` more are exact between two ticks."""
    every: int = 64
    separable: bool = False
    """Values are divided by a factor of their channel first: for channels that are much larger than others."""

    def __post_init__(self) -> None:
        check_bits(self, bits=[self.bits], sinks=self.sinks, recent=self.recent, every=self.every)

    def check(self, past: Past) -> None:
        super().check(past)
        check_dims(past, [self.bits])

    def act(self, past: Past) -> None:
        def coded(keys: Entries, values: Entries, first: int) -> Store:
            return Quantized.of(keys, values, bits=self.bits, group=self.every, separable=self.separable)

        for bank in past.banks:
            settle(bank, coded, sinks=self.sinks, recent=self.recent, every=self.every)

    @classmethod
    def examples(cls) -> Sequence["Quantize"]:
        return [
            cls(bits=4, sinks=2, recent=5, every=4),
            cls(bits=2, sinks=0, recent=0, every=1, separable=True),
            cls(bits=8, sinks=1, recent=3, every=8, separable=True),
        ]
