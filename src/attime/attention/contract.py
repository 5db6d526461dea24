"""What a mixer is: a function with explicit state, `mixer(x, state) -> (y, state)`; any cutting of time agrees."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attime.attention.state import State
from attime.errors import AttimeError
from attime.part import Part
from attime.shapes import check_axes

__all__ = ["Cost", "Mixer", "Traits"]

GRID = "batch time height width dim"


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a mixer claims; each claim is checked by a law."""

    causal: bool = True
    """The past ignores the future; the mixer streams. A mixer that is not causal returns the state None."""
    bounded: bool = False
    """The state stops growing: beyond some past its bytes stay the same."""
    grid: bool = False
    """The input is `batch time height width dim` (an image has time=1) instead of `batch time dim`."""
    valid: bool = True
    """Takes `valid`, the padding mask."""
    when_s: bool = False
    """Takes `when_s`, the time stamps in seconds."""
    prefix: bool = False
    """Takes `prefix`, the length of a part that is read in both directions."""
    context: bool = False
    """Takes `context`, other tokens to attend to (cross attention)."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one streaming step costs after a past of a given length, for one row of the batch, per layer."""

    operations: int
    """Floating-point operations of the mixing itself; projections, the same for all, are not counted."""
    state_bytes: int
    """Bytes of state held. Equals `state.nbytes` of a batch of one."""
    read_bytes: int
    """Bytes of state read to make one output."""


class Mixer(Part, nn.Module):
    """Moves information along time. One call is one chunk; any chunking gives the same answer.

    Leaves fill in `begin`, `mix`, `reference` and `cost`. Inputs are checked, and padding is put in order, here.
    """

    traits: ClassVar[Traits]
    dim: int

    def forward(
        self,
        x: Float[Tensor, "batch *axes dim"],
        state: State | None = None,
        *,
        valid: Bool[Tensor, "batch time"] | None = None,
        **extras: Any,
    ) -> tuple[Float[Tensor, "batch *axes dim"], State | None]:
        """Mix one chunk of any length >= 1; pass the returned state with the next chunk.

        `valid` (batch time) is False at padding, wherever it stands: padded tokens change nothing and come out as
        zeros. `extras` are the optional inputs that the mixer's traits declare: `when_s` (batch time, seconds,
        never decreasing), `prefix` (batch, valid tokens of this chunk read in both directions), `context` (batch, other
        tokens, dim).
        """
        traits, name = self.traits, type(self).__name__
        axes = GRID if traits.grid else "batch time dim"
        check_axes(x, axes, who=self, dim=self.dim)
        for extra in extras:
            if extra not in ("when_s", "prefix", "context") or not getattr(traits, extra):
                takes = [each for each in ("valid", "when_s", "prefix", "context") if getattr(traits, each)]
                raise AttimeError(f"{name} does not take {extra}=; it takes {', '.join(takes) or 'no optional input'}.")
        if state is None:
            state = self.begin(x) if traits.causal else None
        elif not traits.causal:
            raise AttimeError(f"{name} is not causal and keeps no state; call it on the whole clip without one.")
        elif state.batch != x.shape[0]:
            raise AttimeError(f"{name} got a state of {state.batch} rows and a chunk of {x.shape[0]}; they must agree.")
        if valid is None:
            return self.mix(x, state, None, **extras)
        if not traits.valid:
            raise AttimeError(f"{name} does not take valid=; cut the padding off before the call.")
        if valid.shape != x.shape[:2]:
            raise AttimeError(
                f"{name} needs valid= of sizes {tuple(x.shape[:2])} (batch time); got {tuple(valid.shape)}."
            )
        order = (~valid).to(torch.int8).argsort(dim=1, stable=True)  # valid tokens first, in their order
        if "when_s" in extras:
            extras["when_s"] = extras["when_s"].gather(1, order)
        packed = valid.gather(1, order)
        y, state = self.mix(_take(x, order) * packed[..., None], state, packed, **extras)
        return _take(y * packed[..., None], order.argsort(dim=1)), state

    def begin(self, x: Tensor) -> State | None:
        """The state before the first token, for `x`'s batch, device and dtype. None for a mixer that is not causal."""
        return None

    @abstractmethod
    def mix(self, x: Tensor, state: Any, valid: Bool[Tensor, "batch time"] | None, **extras: Any) -> tuple[Tensor, Any]:
        """Outputs of this chunk and the state after it.

        Where `valid` is given, each row's valid tokens come first and its padding, zeroed, after them; what is
        returned at padding does not matter, but the state must be as if it had not been there.
        """

    @abstractmethod
    def reference(self, x: Float[Tensor, "batch *axes dim"]) -> Float[Tensor, "batch *axes dim"]:
        """The equation, slowly and plainly, on a whole clip: what `mix` is tested against."""

    @abstractmethod
    def cost(self, length: int, dtype: torch.dtype = torch.float32) -> Cost:
        """What one more token costs after `length` tokens. For a mixer that is not causal: per token of such a clip.

        A mixer over grids whose cost depends on the size of a frame takes `frame=` beside it, or at construction.
        """


def _take(x: Tensor, order: Tensor) -> Tensor:
    return x.gather(1, order[..., None].expand_as(x))
