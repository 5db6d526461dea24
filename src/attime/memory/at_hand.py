"""Blocks that a token has brought back: the next token mostly wants the same ones, so only what is new is read."""

from collections.abc import Callable
from typing import final

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from attime.memory.recalled import Recalled

__all__ = ["AtHand", "Edge"]

Numbers = Int[Tensor, "lanes blocks"]
Blocks = Float[Tensor, "lanes blocks size dim"]
Read = Callable[[Int[Tensor, " some"], Int[Tensor, " some"]], tuple[Shaped[Tensor, "..."], Shaped[Tensor, "..."]]]
"""Keys and values (some, size, dim) of blocks: their lanes, and their numbers in these."""
Edge = tuple[Int[Tensor, "lanes 1 1"], Int[Tensor, "lanes 1 1"]]
"""The position at which what is brought back ends, and how many of them a block takes."""


@final
class AtHand:
    """As many blocks of every lane, in any order."""

    def __init__(self, wanted: Numbers, read: Read) -> None:
        lanes = torch.arange(len(wanted), device=wanted.device)[:, None].expand_as(wanted)
        keys, values = read(lanes.flatten(), wanted.flatten())
        self.wanted, self.blocks = wanted, wanted.clone()
        self.keys: Blocks = keys.unflatten(0, wanted.shape).contiguous()
        self.values: Blocks = values.unflatten(0, wanted.shape).contiguous()
        self.recalled: Recalled | None = None
        """What was made of them ..."""
        self.edge: Edge | None = None
        self.gone = -1
        """... where they ended before the window, when so many entries of the past were no longer beside them."""

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        made = () if self.recalled is None else (self.recalled,)
        return sum(each.nbytes for each in (self.blocks, self.wanted, self.keys, self.values, *made))

    def turn_to(self, wanted: Numbers, read: Read, *, learning: bool) -> bool:
        """Have these blocks at hand; False, and nothing is changed, if most of them are others, or some and gradients flow."""
        if torch.equal(self.wanted, wanted):
            return True
        foreign = self.keys.is_inference() and not torch.is_inference_mode_enabled()
        if self.wanted.shape != wanted.shape or learning or foreign:
            return False  # what gradients, or inference mode, have seen is not written over
        same = self.blocks[:, :, None] == wanted[:, None]
        old, new = ~same.any(2), ~same.any(1)  # equally many in every lane
        missing = int(new.sum())
        if 2 * missing > new.numel():
            return False
        if missing:
            self.keys[old], self.values[old] = read(new.nonzero()[:, 0], wanted[new])
            self.blocks[old] = wanted[new]
        self.wanted, self.recalled = wanted, None
        return True
