r"""Temporal maps of later blocks are drawn towards those of the first block that is steered.

    A <- A + alpha (A_1 - A)        A_1: the map of the same module in the first block, resized to the places of this one

Source:  BroadWay, arXiv 2410.06241, sec. 3.2 (temporal self-guidance).
Names:   our `strength` is alpha: .6 for AnimateDiff, .1 for VideoCrafter2 in the paper, in the first fifth of the steps
         (`steps=range(5)` of 25).
Cost:    the maps of one block are held until the next forward pass.
Differs: what is the first block follows from `where`: up_blocks.1 of a U-Net, unless the user chooses other sites; in a
         model without such blocks, the first with temporal attention.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from attime.control.call import Call, Layout
from attime.control.contract import Control, Traits
from attime.errors import AttimeError
from attime.site import Where, kind, named

__all__ = ["LATE", "SelfGuidance"]

Maps = Float[Tensor, "batch heads query key"]
LATE = kind("temporal") & ~(named("transformer_in") | named("down_blocks") | named("mid_block") | named("up_blocks.0"))
"""Temporal sites but those of a U-Net before its second decoder block."""


@final
@dataclass(frozen=True, kw_only=True)
class SelfGuidance(Control):
    """Blocks agree about time: later temporal maps lean on those of an earlier block (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(kinds=("temporal",))
    where: ClassVar[Where] = LATE
    strength: float = 0.6

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise AttimeError(f"SelfGuidance needs strength from 0 to 1 (alpha of the paper); got {self.strength}.")

    def maps(self, maps: Maps, call: Call) -> Maps:
        block, module = _split(call.site.name)
        if block == call.notes.setdefault("first block", block):
            call.notes[module] = maps, call.layout
        if self.strength == 0 or block == call.notes["first block"]:
            return maps
        if module not in call.notes:
            raise AttimeError(
                f"SelfGuidance finds no {module} in {call.notes['first block']} to guide {call.site.name}: select blocks "
                f"that are made alike."
            )
        first, layout = call.notes[module]
        if len(first) != len(maps):
            first = _resized(first, layout, call)
        return torch.lerp(maps, first.to(maps), self.strength)

    @classmethod
    def examples(cls) -> Sequence["SelfGuidance"]:
        return [cls(), cls(strength=0.1, steps=range(1))]


def _split(path: str) -> tuple[str, str]:
    """A block, up to the first number in the path, and a module in it."""
    names = path.split(".")
    stop = next((place for place, name in enumerate(names) if name.isdecimal()), 0) + 1
    return ".".join(names[:stop]), ".".join(names[stop:])


def _resized(first: Maps, there: Layout | None, call: Call) -> Maps:
    """Maps of as many places as the call has, bilinear between those of the first block."""
    here = call.layout
    if there is None or here is None or there.wide is None or here.wide is None:
        raise AttimeError(
            f"SelfGuidance must know how places lie in frames to guide {call.site.name}: call the model as a whole."
        )
    laid = first.reshape(-1, there.rows // there.wide, there.wide, first[0].numel()).movedim(-1, 1)
    size = (here.rows // here.wide, here.wide)
    return F.interpolate(laid, size=size, mode="bilinear").movedim(1, -1).reshape(-1, *first.shape[1:])
