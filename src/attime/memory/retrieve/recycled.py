r"""Recycled attention: one step in S attends to everything, and the others to what that one attended to most.

    t = 0 mod S:   attends to all,       A_t = the K entries with the largest max over query heads of its attention
    otherwise:     attends to A_t and to all that has come since t

Source:  Recycled Attention (later versions: RefreshKV), arXiv 2411.05787, sec. 3, with a fixed stride.
Names:   our `every` is their stride S, `entries` their K.
Cost:    K + S entries per step, everything at one in S, where the attention row is computed twice; K entries are held
         twice.
Differs: nothing tells a prompt from what is generated: every token takes part, unless `full` gives the length of a prompt
         that is read in full. No dynamic stride by the angle between queries, since rows would part ways.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from attime.errors import AttimeError
from attime.memory.contract import Policy, Traits, check_evidence
from attime.memory.past import Past
from attime.memory.reader import observe

__all__ = ["Recycled"]


@final
@dataclass(frozen=True, kw_only=True)
class Recycled(Policy):
    """Keeps everything and attends to a small part of it most of the time (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(queries=1)
    entries: int = 4096
    every: int = 50
    full: int = 0
    """So many first tokens attend to everything."""
    over_heads: Literal["max", "mean"] = "max"
    """How the query heads that share keys agree."""

    def __post_init__(self) -> None:
        if self.entries < 1 or self.every < 1 or self.full < 0:
            raise AttimeError(f"Recycled needs entries >= 1, every >= 1 and full >= 0; got {self}.")

    def until_tick(self, seen: int) -> int:
        """Before each step that attends to all, and after it."""
        if seen < self.full - self.full % self.every:
            return self.full - self.full % self.every - seen
        return 1 if seen % self.every == 0 else self.every - seen % self.every

    def act(self, past: Past) -> None:
        check_evidence(self, self.traits, past)
        for bank in past.banks:
            if past.seen % self.every != 1 % self.every:
                bank.near = None
            elif self.every > 1 and bank.length > self.entries and past.seen > self.full:
                seen = observe(past, bank, 1)[:, :, 0]
                rate = seen.amax(1) if self.over_heads == "max" else seen.mean(1)
                bank.near = bank.some(rate.topk(self.entries).indices.sort().values, past.rotate, room=self.every)

    @classmethod
    def examples(cls) -> Sequence["Recycled"]:
        return [
            cls(entries=8, every=4),
            cls(entries=5, every=7, full=20, over_heads="mean"),
            cls(entries=8, every=1),
        ]
