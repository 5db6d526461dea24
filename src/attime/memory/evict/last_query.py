"""What the last token attends to least goes, without any memory of earlier attention.

    score_i = attention(now, i), averaged over the heads of the layer

Source:  TOVA, in Transformers are multi-state RNNs, arXiv 2401.06104, sec. 3.2.
Cost:    one row of attention per tick.
Differs: where heads keep different entries, an entry is rated by those that have it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch

from attime.memory.contract import Traits
from attime.memory.evict.contract import Rates, Score
from attime.memory.past import Past
from attime.memory.reader import observe

__all__ = ["LastQuery"]


@final
@dataclass(frozen=True, kw_only=True)
class LastQuery(Score):
    """Keeps what the last query attends to (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(acts=False, queries=1)
    per_head: bool = False
    """Every key-value head by itself."""

    def rate(self, past: Past) -> Rates:
        own = [observe(past, bank, 1)[:, :, 0].mean(1) for bank in past.banks]
        if self.per_head:
            return own
        tokens = [(bank.lanes // past.heads)[:, None] * past.seen + bank.when.now for bank in past.banks]
        _, where = torch.cat([each.flatten() for each in tokens]).unique(return_inverse=True)
        flat = torch.cat([each.flatten() for each in own])
        total = flat.new_zeros(int(where.max()) + 1).index_add(0, where, flat)
        had_by = torch.zeros_like(total).index_add(0, where, torch.ones_like(flat))
        shared = (total / had_by)[where].split([each.numel() for each in own])
        return [mean.view_as(each) for mean, each in zip(shared, own, strict=True)]

    @classmethod
    def examples(cls) -> Sequence["LastQuery"]:
        return [cls(), cls(per_head=True)]
