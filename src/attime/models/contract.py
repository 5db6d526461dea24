"""What a model is: a backbone that streams, and a head that is asked for outputs only where they are needed."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor, nn

from attime.attention.state import State
from attime.part import Part

__all__ = ["Model", "Traits"]


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a model claims; each claim is checked by a law."""

    causal: bool = True
    """Streams: any cutting of time gives the same outputs."""


class Model(Part, nn.Module):
    """`model(inputs, state) -> (hidden, state)`, then `model.head(hidden[where])` gives the outputs there."""

    traits: ClassVar[Traits] = Traits()

    @abstractmethod
    def forward(
        self, inputs: Tensor, state: State | None = None, *, valid: Bool[Tensor, "batch time"] | None = None
    ) -> tuple[Float[Tensor, "batch time *width"], State | None]:
        """One chunk of inputs (batch time) or (batch time channels); pass the returned state with the next one."""

    @abstractmethod
    def head(self, hidden: Float[Tensor, " places *width"]) -> Tensor:
        """Outputs at chosen places: (places, vocabulary) logits or (places, horizon, channels) values."""
