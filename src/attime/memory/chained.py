"""Policies that act one after the other, as one: what a model is given and a past is read under."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

from attime.errors import AttimeError
from attime.memory.contract import Policy, Traits
from attime.memory.past import Past

__all__ = ["Chain", "chain"]


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
            past.settle()

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
