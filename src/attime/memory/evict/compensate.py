"""One entry stands for all that is dropped: their mean key and mean value, read with the weight of as many tokens.

    k' = mean of dropped keys,   v' = mean of dropped values,   logit' = q . k' + log(number dropped)

Source:  RazorAttention, arXiv 2407.15891, sec. 3.3 (compensation token).
Cost:    one entry per head; at a tick the dropped entries are read once.
Differs: a running mean over the whole life of a past; entries that stand for several count for as many. Keys are averaged
         as they came (rotated), so the mean of far-apart tokens is short: it answers with about equal weight everywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Bool
from torch import Tensor

from attime.memory.buffer import Buffer
from attime.memory.evict.contract import Action
from attime.memory.past import Past

__all__ = ["Compensate"]


@final
@dataclass(frozen=True, kw_only=True)
class Compensate(Action):
    """A mean entry with its log-mass, behind the sinks (see the module docstring)."""

    stands: ClassVar[int] = 1

    def leave(self, past: Past, keep: Sequence[Bool[Tensor, "_ _"]], *, sinks: int, room: int) -> None:
        for bank, kept in zip(past.banks, keep, strict=True):
            some = ~kept.all(1)
            if not bool(some.any()):
                continue
            if bank.log_mass is None:
                bank.log_mass = Buffer(torch.zeros(bank.when.now.shape, device=kept.device))
            gone = ~kept
            gone[:, sinks] = True
            keys, values, mass = bank.keys(), bank.values(), bank.log_mass.now
            share = (mass.double().exp() * gone).to(torch.promote_types(keys.dtype, torch.float32))
            total = share.sum(1, keepdim=True)
            means = [((share / total)[:, None] @ each.to(share.dtype))[:, 0] for each in (keys, values)]
            means = [
                torch.where(some[:, None], mean, each[:, sinks])
                for mean, each in zip(means, (keys, values), strict=True)
            ]
            mass[:, sinks] = torch.where(some, total[:, 0].log(), mass[:, sinks]).to(mass.dtype)
            bank.put(sinks, means[0], means[1])
        past.drop(keep, room=room)

    @classmethod
    def examples(cls) -> Sequence["Compensate"]:
        return [cls()]
