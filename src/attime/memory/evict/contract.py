"""Eviction in three parts: a score says which entries matter, a budget how many stay, an action what the others leave behind."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attime.given import Given
from attime.memory.contract import Traits
from attime.memory.past import Past
from attime.part import Part

__all__ = ["Action", "Budget", "Counts", "Drop", "Rates", "Score"]

Rates = list[Float[Tensor, "_ _"]]
"""One number per entry, a tensor per bank: what is higher stays longer."""
Counts = list[Int[Tensor, " lanes"]]
"""Entries that each lane keeps, a tensor per bank."""


class Score(Given, Part):
    """How much each entry matters: a frozen, keyword-only dataclass."""

    traits: ClassVar[Traits] = Traits(acts=False)

    def evidence(self) -> Traits:
        """What this object needs."""
        return self.traits

    @abstractmethod
    def rate(self, past: Past) -> Rates:
        """Rates of all entries; evidence that the score asks for is there."""


class Budget(Given, Part):
    """How many entries each lane keeps: a frozen, keyword-only dataclass.

    Where the traits say bounded, int(budget) is the most that any lane of any layer holds.
    """

    traits: ClassVar[Traits] = Traits(acts=False)

    @property
    @abstractmethod
    def smallest(self) -> int | None:
        """The least that a lane may hold in the long run; None if that is known only with a past."""

    def check(self, past: Past) -> None:
        """AttimeError where it is known before the first token that it does not fit the model."""

    def limit(self, past: Past) -> int | None:
        """The most entries that a lane of this layer ever holds; None if lanes differ."""
        return None

    def counts(self, past: Past, rated: Callable[[], Rates], *, every: int) -> Counts:
        """What lanes keep at a tick, so that there is room for `every` more; rates are worked out where asked for."""
        most = self.limit(past)
        assert most is not None, "a budget has a limit, or says what each lane keeps"
        return [torch.full_like(bank.lanes, max(0, most - every)) for bank in past.banks]


class Action(Given, Part):
    """What happens with what does not stay: a frozen, keyword-only dataclass."""

    traits: ClassVar[Traits] = Traits(acts=False)
    stands: ClassVar[int] = 0
    """Entries behind the sinks that are the action's own: always kept, and filled by it."""

    @abstractmethod
    def leave(self, past: Past, keep: Sequence[Bool[Tensor, "_ _"]], *, sinks: int, room: int) -> None:
        """Free what is not kept (one mask per bank), with room for so many more; put its traces behind the sinks."""


@final
@dataclass(frozen=True, kw_only=True)
class Drop(Action):
    """It is gone."""

    def leave(self, past: Past, keep: Sequence[Bool[Tensor, "_ _"]], *, sinks: int, room: int) -> None:
        past.drop(keep, room=room)

    @classmethod
    def examples(cls) -> Sequence["Drop"]:
        return [cls()]
