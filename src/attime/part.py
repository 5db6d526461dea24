"""Part: what every mechanism of the house is, so that laws, catalogue and command line can find and try it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

__all__ = ["Part"]


class Part(ABC):
    """A mechanism that can show itself: small examples, and the laws that it does not obey, with reasons.

    `waived` maps a law's name to the reason why this part does not obey it. A waived law is run all
    the same and must fail: an exception that no longer holds is an error.
    """

    waived: ClassVar[Mapping[str, str]] = {}

    @classmethod
    @abstractmethod
    def examples(cls) -> Sequence["Part"]:
        """Two or more small instances that together use every option; laws run on each."""
