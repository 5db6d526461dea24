"""What a law is: a check that every part with certain traits must pass."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from attime.part import Part

__all__ = ["Law", "pairs"]


@dataclass(frozen=True)
class Law:
    """A named check. It applies to parts whose traits have all of `needs`, none of `unless` and, if any are named, one of `one_of`."""

    check: Callable[[Any], None]
    needs: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name under which a part may waive the law."""
        return self.check.__name__

    def applies(self, part: Part) -> bool:
        """Whether the part claims what this law checks."""
        claims = getattr(part, "evidence", None)
        traits = getattr(part, "traits", None) if claims is None else claims()
        if self.one_of and not any(getattr(traits, each) for each in self.one_of):
            return False
        return all(getattr(traits, need) for need in self.needs) and not any(getattr(traits, no) for no in self.unless)

    def run(self, part: Part) -> None:
        """Check a copy of the part; AssertionError (or the part's own error) when it breaks the law."""
        self.check(copy.deepcopy(part))


def pairs(parts: Sequence[Part], laws: Sequence[Law]) -> list[tuple[Part, Law]]:
    """Each part with each law that applies to it."""
    return [(part, law) for part in parts for law in laws if law.applies(part)]
