"""Positions inside the memory: what is kept is read as if nothing had lain between, so distances stay those of training.

    the entry in slot i is read later by all gaps behind it: shift_i = sum over j >= i of (p_{j+1} - p_j - 1)

Source:  StreamingLLM, arXiv 2309.17453, sec. 3.2.
Names:   p are rotary positions; where they have several axes, a gap lies between the greatest before and the least after it.
Cost:    the entries before the first gap-free stretch are rotated when they are read.
Differs: rotated from the key as it came and not from the last rotation, so that nothing drifts on an endless stream.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Int
from torch import Tensor

from attime.memory.contract import Policy, Traits
from attime.memory.past import Past

__all__ = ["Contiguous"]


@final
@dataclass(frozen=True, kw_only=True)
class Contiguous(Policy):
    """Closes the gaps that the policies before it have left (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(rotary=True)
    follows: ClassVar[bool] = True
    every: int = 1

    def act(self, past: Past) -> None:
        self.check(past)
        assert past.rotate is not None
        for bank in past.banks:
            if bank.parked is not None and bank.parked.choosing.contiguous:
                continue  # what is brought back stands in the gap
            after = _gaps(bank.when.now) if bank.place is None else _gaps_between(bank.when.now, bank.place.now)
            moved = int((after > 0).sum(1).max())  # gaps behind an entry only fall from one to the next
            bank.move(after[:, :moved].to(torch.float64) if moved else None, past.rotate)

    @classmethod
    def examples(cls) -> Sequence["Contiguous"]:
        return [cls()]


def _gaps(when: Int[Tensor, "lanes entries"]) -> Int[Tensor, "lanes entries"]:
    """All gaps behind each entry: how many tokens are not there."""
    slot = torch.arange(when.shape[1], dtype=when.dtype, device=when.device)
    return (when[:, -1:] - slot[-1:]) - (when - slot)


def _gaps_between(when: Int[Tensor, "lanes entries"], place: Int[Tensor, "lanes entries 2"]) -> Int[Tensor, "lanes _"]:
    """All gaps behind each entry but the last, where positions have several axes."""
    low, high = place.unbind(-1)
    gap = torch.where(when.diff(dim=1) > 1, low[:, 1:] - high[:, :-1] - 1, 0).clamp(min=0)
    return gap.flip(1).cumsum(1).flip(1)
