"""What a memory policy is: at fixed ticks of a stream it changes the past of a layer, with the evidence that it declares."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, final

from attime.errors import AttimeError
from attime.given import Given
from attime.memory.past import Past
from attime.part import Part

__all__ = ["Chain", "Policy", "Traits", "chain", "check_evidence"]


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


@final
@dataclass(frozen=True)
class Chain(Policy):
    """Policies that act one after the other, each on what the ones before it have left."""

    policies: tuple[Policy, ...] = ()
    every: int = 1

    def act(self, past: Past) -> None:
        due = [policy for policy in self.policies if not policy.follows and policy.due(past.seen)]
        for policy in self.policies:
            if policy in due or (due and policy.follows):
                policy.act(past)
        if due:
            for bank in past.banks:
                if bank.parked is not None:
                    bank.parked.settle(past, bank)

    @property
    def budget(self) -> int:
        """The most entries that a lane holds: the least of what its policies allow."""
        return min(int(policy.budget) for policy in self.policies if policy.evidence().bounded)  # type: ignore[attr-defined]

    def until_tick(self, seen: int) -> int | None:
        """Tokens to come before the next tick of any policy; None if there is none."""
        ticks = [policy.until_tick(seen) for policy in self.policies if not policy.follows]
        return min((tick for tick in ticks if tick is not None), default=None)

    def evidence(self) -> Traits:
        return self._evidence

    def check(self, past: Past) -> None:
        for policy in self.policies:
            policy.check(past)

    @cached_property
    def _evidence(self) -> Traits:
        every = [policy.evidence() for policy in self.policies]
        return Traits(
            bounded=any(each.bounded for each in every),
            drops=any(each.drops for each in every),
            maps=any(each.maps for each in every),
            queries=max((each.queries for each in every), default=0),
            parks=any(each.parks for each in every),
            rotary=any(each.rotary for each in every),
        )

    @classmethod
    def examples(cls) -> Sequence["Chain"]:
        from attime.memory.evict import SinkWindow

        return [chain(), chain(SinkWindow(sinks=2, window=14, every=4))]


def chain(*policies: object) -> Chain:
    """Policies that act one after the other: `chain(SinkWindow(), Contiguous())`. Without any, everything is kept.

    A policy that follows others acts behind the last one that drops entries, wherever it was given: what is dropped behind
    it would undo what it has done.
    """
    flat: list[Policy] = []
    for policy in policies:
        if not isinstance(policy, Policy):
            raise AttimeError(f"chain needs policies such as SinkWindow(sinks=4, window=1020); got {policy!r}.")
        flat += policy.policies if isinstance(policy, Chain) else (policy,)
    if sum(policy.evidence().parks for policy in flat) > 1:
        raise AttimeError(
            "chain needs one policy at most that parks entries and brings them back; got two: leave one out."
        )
    last = max((number for number, policy in enumerate(flat) if policy.evidence().drops), default=0)
    before = [policy for policy in flat[:last] if policy.follows]
    flat = [*(policy for policy in flat[: last + 1] if policy not in before), *before, *flat[last + 1 :]]
    return Chain(tuple(flat), every=max((each.every for each in flat), default=1))
