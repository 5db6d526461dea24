"""Attention sinks and a sliding window: the first tokens and the latest ones, read as if nothing lay between them.

    kept = {0 .. s-1} + {the last w};   the positions of what is kept are contiguous and end at the present

Source:  StreamingLLM, arXiv 2309.17453, sec. 3.2: positions are those inside the cache.
Cost:    a step reads at most sinks + window entries.
Differs: the window advances in steps of `every` tokens, so a token sees the last window - every + 1 to window ones; a
         re-placed sink is rotated when it is read, from the key as it came, so nothing drifts on an endless stream.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from attime.errors import AttimeError
from attime.memory.contract import Policy, Traits
from attime.memory.past import Past

__all__ = ["SinkWindow"]


@final
@dataclass(frozen=True, kw_only=True)
class SinkWindow(Policy):
    """Attention sinks plus a sliding window (see the module docstring)."""

    sinks: int = 4
    window: int = 1020
    every: int = 128
    """The window moves on by so many tokens at a time."""

    traits: ClassVar[Traits] = Traits(bounded=True, drops=True)

    def __post_init__(self) -> None:
        if self.sinks < 0 or self.every < 1 or self.window <= self.every:
            raise AttimeError(
                f"SinkWindow needs sinks >= 0 and window > every >= 1; "
                f"got sinks={self.sinks}, window={self.window}, every={self.every}."
            )

    @property
    def budget(self) -> int:
        """The most entries that a lane holds."""
        return self.sinks + self.window

    def act(self, past: Past) -> None:
        past.cut(self.sinks, self.window - self.every, room=self.every)

    @classmethod
    def examples(cls) -> Sequence["SinkWindow"]:
        return [cls(sinks=2, window=14, every=4), cls(sinks=0, window=9, every=1), cls(sinks=3, window=5, every=1)]
