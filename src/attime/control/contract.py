"""What a control is: pure functions on what one attention call computes, at the sites and steps where it acts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from attime.control.call import Call, Heads, Layout, Maps
from attime.given import Given
from attime.part import Part
from attime.site import Kind, Site, Where

__all__ = ["STAGES", "Control", "Traits"]

STAGES = ("heads", "scores", "maps", "outputs")
"""What a control can change, in the order in which an attention call computes it."""


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a control claims or needs; each claim is checked by a law."""

    rows: bool = True
    """The maps that it makes have rows of sum one, with no entry below 0."""
    kinds: tuple[Kind, ...] = ()
    """Kinds of sites for which it is meant; empty: any."""
    visual: bool = False
    """Needs to know which tokens are of pictures."""
    layout: bool = False
    """Needs to know which tokens are of which frame."""
    stream: bool = False
    """Needs what the block around the attention module was given."""
    rotary: bool = False
    """Needs to know how queries and keys were turned."""


@dataclass(frozen=True, kw_only=True)
class Control(Given, Part):
    """A frozen, keyword-only dataclass that overrides one or more of the four stages; what it does not override stays fast.

    A stage is a pure function: it returns what shall be used instead and leaves its arguments as they are. What several
    calls share goes into `call.notes`.
    """

    traits: ClassVar[Traits] = Traits()
    where: ClassVar[Where | None] = None
    """The sites where it acts unless the user says otherwise; None: all of its kinds."""
    strength: float = 1.0
    """0 is the identity, bit for bit."""
    steps: range | None = None
    """Steps at which it acts; None: all."""

    def check(self, sites: Sequence[Site]) -> None:
        """AttimeError if it could never act as it should at the sites of a model that it is put on."""

    def heads(self, call: Call) -> tuple[Heads, Heads, Heads]:
        """Queries, keys and values before the scores."""
        return call.q, call.k, call.v

    def layout(self, call: Call) -> Layout | None:
        """Where tokens are in what `heads` makes of the call.

        Who overrides it may put queries into other rows, and back into their own in `outputs`: it acts nearest to attention,
        between the `heads` and the `outputs` of all others, whatever the order.
        """
        return call.layout

    def scores(self, scores: Maps, call: Call) -> Maps:
        """Logits before the softmax."""
        return scores

    def maps(self, maps: Maps, call: Call) -> Maps:
        """Attention after the softmax."""
        return maps

    def outputs(self, out: Heads, call: Call) -> Heads:
        """Outputs of every head, before they are mixed."""
        return out

    def acts(self, call: Call) -> bool:
        """Whether it has anything to do at this step."""
        return self.strength != 0 and (self.steps is None or call.step in self.steps)

    @classmethod
    def stages(cls) -> tuple[str, ...]:
        """The stages that this class overrides."""
        return tuple(stage for stage in STAGES if getattr(cls, stage) is not getattr(Control, stage))

    @classmethod
    def regroups(cls) -> bool:
        """Whether it may put queries into other rows."""
        return cls.layout is not Control.layout
