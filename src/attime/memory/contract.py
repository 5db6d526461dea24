"""What a memory policy is: at fixed ticks of a stream it changes the past of a layer, with the evidence that it declares."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from attime.errors import AttimeError
from attime.given import Given
from attime.memory.past import Past
from attime.part import Part

__all__ = ["Policy", "Traits", "check_evidence"]


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a policy claims or needs; each claim is checked by a law."""

    acts: bool = True
    """Is a policy; a score or a budget is only a part of one."""
    bounded: bool = False
    """No lane ever holds more than `budget` entries."""
    drops: bool = False
    """Entries are lost: what is left is a part of what came."""
    maps: bool = False
    """Needs the attention that entries receive (`Bank.received`)."""
    queries: int = 0
    """Needs this many of the last queries (`Past.queries`)."""
    parks: bool = False
    """Parks entries apart and brings some of them back (`Bank.parked`)."""
    rotary: bool = False
    """Needs a model with rotary positions, since it moves keys."""
    frames: bool = False
    """Is a bank over frames, not a policy over keys and values (see `memory.banks`)."""
    merges: bool = False
    """The weights of what a bank gives to read add up to the frames it has seen."""


class Policy(Given, Part):
    """A frozen, keyword-only dataclass. It acts when the number of tokens seen is a multiple of `every`, unless it says otherwise.

    Between its ticks every token sees all that was there after the last one, and all that has come since, up to
    itself. So the numbers do not depend on how the stream is cut into chunks.
    """

    traits: ClassVar[Traits] = Traits()
    every: int
    follows: ClassVar[bool] = False
    """Acts whenever another policy of its chain acts, and never on its own account."""

    @abstractmethod
    def act(self, past: Past) -> None:
        """Change the past by its verbs: drop entries, move them to another store, re-place them."""

    def until_tick(self, seen: int) -> int | None:
        """Tokens to come, after `seen` of them, before it acts next; None: never."""
        return self.every - seen % self.every

    def due(self, seen: int) -> bool:
        """Whether it acts after so many tokens."""
        return self.until_tick(seen - 1) == 1

    def evidence(self) -> Traits:
        """What this object needs; its class's traits unless its parts decide."""
        return self.traits

    def unmoved(self) -> "Policy | None":
        """The same for a model in which keys cannot be moved; None if nothing is left of it."""
        return None if self.evidence().rotary else self

    def check(self, past: Past) -> None:
        """AttimeError where it is known before the first token that it could not act; the past's banks have no entries yet.

        What is told for one layer is told for the first, so that no layer has taken anything in.
        """
        if self.evidence().rotary and past.rotate is None:
            raise AttimeError(
                f"{type(self).__name__} moves keys along rotary positions, and this model has none: leave it out, or give it "
                f"contiguous=False if it has that."
            )


def check_evidence(who: object, needs: Traits, past: Past) -> None:
    """AttimeError where `who` needs maps or queries and the past was read by nobody who noted them."""
    lacks = "the attention that entries receive" if needs.maps and any(b.received is None for b in past.banks) else ""
    if needs.queries and (past.queries is None or past.scoring is None):
        lacks = f"the last {needs.queries} queries"
    if lacks:
        raise AttimeError(f"{who} needs {lacks}: read the past under this policy's chain.")
