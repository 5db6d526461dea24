r"""Keep the tokens that changed most from the last kept one.

The first token is always kept. As long as there are too many, the one that differs least (Euclidean distance) from the
kept one before it is dropped; the one after it is from then on compared with the kept one before both. A kept token
stands for itself and for the dropped ones up to the next.

Source:  the deletion of redundant frames and the run lengths that remain, as of repeated video patches in Run-Length
         Tokenization, arXiv 2411.05222.
Cost:    one step for each token that goes, all rows at once: O((T - budget) (T + d)).
Differs: RLT drops what changed less than a threshold from the frame before; here the budget decides, and slow drift adds
         up, since the comparison is with what was kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional as F

from attime.tokens.contract import Reducer, Traits

__all__ = ["KeepChanges"]


@final
@dataclass(frozen=True)
class KeepChanges(Reducer):
    """Some of the tokens, unmodified (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(reduces=True, keeps=True)

    def shrink(self, x: Tensor, valid: Tensor, mass: Tensor, slots: int) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            kept = _kept(x, valid.sum(1), slots)
        owner = (kept.cumsum(1) - 1).clamp(min=0)
        first = (~kept).to(torch.int8).argsort(dim=1, stable=True)[:, :slots]
        return x.gather(1, first[..., None].expand(-1, -1, x.shape[2])), owner

    @classmethod
    def examples(cls) -> Sequence["KeepChanges"]:
        return [cls()]


def _kept(x: Tensor, counts: Tensor, budget: int) -> Tensor:
    """Which tokens stay. `before` and `after` link the ones that are left; the place one past the end takes what is void."""
    rows, end = torch.arange(len(x), device=x.device), x.shape[1]
    place = torch.arange(end + 1, device=x.device)
    x = F.pad(x, (0, 0, 0, 1))
    kept = place < counts[:, None]
    before = (place - 1).clamp(min=0).repeat(len(x), 1)
    after = torch.where(place + 1 < counts[:, None], place + 1, end)
    change = F.pad((x[:, 1:] - x[:, :-1]).square().sum(-1), (1, 0))
    change = change.masked_fill(~kept | (place == 0), torch.inf)
    for left in range(end, budget, -1):
        gone = torch.where(counts == left, change.argmin(dim=1), end)  # rows that have fewer tokens wait
        previous, following = before[rows, gone], after[rows, gone]
        kept[rows, gone], change[rows, gone] = False, torch.inf
        after[rows, previous], before[rows, following] = following, previous
        moved = (x[rows, following] - x[rows, previous]).square().sum(-1)
        change[rows, following] = moved.masked_fill(following == end, torch.inf)
        counts = counts - (counts == left).long()
    return kept[:, :end]
