r"""Slots that each move towards what resembles them: a gist of the whole stream, one token per slot.

    w = r softmax_i(q(M_i) . k(e) / sqrt(hidden))        M_i <- (1 - w_i) M_i + w_i e

Source:  Flash-VStream (abstract memory, semantic attention), arXiv 2406.08085, sec. 3.2.
Names:   `slots` are their abstract memory's length; `rate` is 0.2 in the paper; e is the frame's mean.
Cost:    one product of `slots` by hidden.
Differs: the softmax is over the slots; over the new frame's tokens, as in the released code, a single mean always has weight 1
         and all slots become the same running mean. Times move along with the slots.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import final

import torch
from torch import Tensor, nn

from attime.attention.state import state_dtype
from attime.errors import AttimeError
from attime.memory.banks.coarser import area, coarser
from attime.memory.banks.contract import Entry, FrameBank, Parts

__all__ = ["SemanticSlots"]


@final
class SemanticSlots(FrameBank, nn.Module):
    """`slots` slots on grids of at most `cells` cells along each side (see the module docstring)."""

    def __init__(self, dim: int, *, slots: int = 25, hidden: int = 32, rate: float = 0.2, cells: int = 1) -> None:
        super().__init__()
        if min(dim, slots, hidden, cells) < 1 or not 0 < rate <= 1:
            raise AttimeError(
                f"SemanticSlots needs dim, slots, hidden, cells >= 1 and 0 < rate <= 1; got dim={dim}, slots={slots}, "
                f"hidden={hidden}, rate={rate}, cells={cells}."
            )
        self.dim, self.slots, self.hidden, self.rate, self.cells = dim, slots, hidden, rate, cells
        self.query, self.key = nn.Linear(dim, hidden), nn.Linear(dim, hidden)

    def take(self, parts: Parts, new: Entry) -> Parts:
        wide = state_dtype(new.frame.dtype)
        new = replace(new, frame=coarser(new.frame, self.cells).to(wide), weight=0.0)
        held = parts.get("slots", ())
        if len(held) < self.slots:
            return {"slots": (*held, new)}
        memory = torch.stack([entry.frame for entry in held])
        share = self._shares(memory.mean((1, 2)), new.frame.mean((0, 1)))
        moved = memory + share[:, None, None, None] * (new.frame - memory)
        changed = zip(held, moved.unbind(), share.tolist(), strict=True)
        return {
            "slots": tuple(
                replace(old, frame=frame.clone(), when_s=old.when_s + part * (new.when_s - old.when_s))
                for old, frame, part in changed
            )
        }

    def _shares(self, memory: Tensor, mean: Tensor) -> Tensor:
        weight = self.query.weight.dtype
        scores = self.query(memory.to(weight)) @ self.key(mean.to(weight)) / self.hidden**0.5
        return self.rate * scores.softmax(0).to(memory.dtype)

    def budget(self, height: int, width: int) -> int:
        return self.slots * area(height, width, self.cells)

    @classmethod
    def examples(cls) -> Sequence["SemanticSlots"]:
        return [cls(8, slots=3, hidden=4), cls(8, slots=4, hidden=5, rate=0.5, cells=2)]
