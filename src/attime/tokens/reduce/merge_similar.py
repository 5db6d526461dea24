r"""Merge the neighbours in time that are most alike, until the budget is met.

In each round every second token (even places) is matched with the one of its two neighbours that has the greater cosine
similarity; the most similar of these pairs become one token, their mean weighted by mass. A token may take in both its
neighbours. Rounds go on with what is left.

Source:  Token Merging (ToMe), arXiv 2210.09461, sec. 3 (bipartite soft matching; size-weighted means).
Names:   `mass` is their size s; `share` times the tokens of a round is their r, at most half of them.
Cost:    O(T d) per round; about log2(T / budget) rounds with share = 0.5.
Differs: only neighbours in time merge, so that every token stands for one stretch of time and order is kept; similarity
         of the tokens, where ToMe takes attention keys; as many rounds as the budget needs, not one per layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional as F

from attime.errors import AttimeError
from attime.tokens.contract import Reducer, Traits

__all__ = ["MergeSimilar"]


@final
@dataclass(frozen=True, kw_only=True)
class MergeSimilar(Reducer):
    """Means of neighbours. `share` of the tokens at most merge in one round: less is slower and nearer to best-first."""

    traits: ClassVar[Traits] = Traits(reduces=True, merges=True)
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share <= 0.5:
            raise AttimeError(f"MergeSimilar needs 0 < share <= 0.5; got {self.share}.")

    def shrink(self, x: Tensor, valid: Tensor, mass: Tensor, slots: int) -> tuple[Tensor, Tensor]:
        owner = torch.arange(x.shape[1], device=x.device).expand(valid.shape)
        counts = valid.sum(1)
        while x.shape[1] > slots:
            merged = (self.share * counts.double()).long().clamp(min=1).minimum(counts - slots).clamp(min=0)
            joins = _joins(x.detach(), counts, merged)
            group = (~joins).cumsum(1) - 1
            width = x.shape[1] - min(x.shape[1] - slots, max(1, int(self.share * x.shape[1])))
            group = group.clamp(max=width - 1)  # only padding is beyond
            x, mass = _merged(x, mass, group, width)
            owner, counts = group.gather(1, owner), counts - merged
        return x, owner

    @classmethod
    def examples(cls) -> Sequence["MergeSimilar"]:
        return [cls(), cls(share=0.2)]


def _joins(x: Tensor, counts: Tensor, merged: Tensor) -> Tensor:
    """Whether each token goes to the one before it: `merged` matches per row, the most similar ones."""
    place = torch.arange(x.shape[1], device=x.device)
    unit = F.normalize(x, dim=-1)
    alike = (unit[:, 1:] * unit[:, :-1]).sum(-1)
    alike = alike.masked_fill(place[1:] >= counts[:, None], -torch.inf)
    before, after = F.pad(alike, (1, 0), value=-torch.inf), F.pad(alike, (0, 1), value=-torch.inf)
    best = torch.maximum(before, after).masked_fill(place % 2 == 1, -torch.inf)
    rank = best.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    chosen = rank < merged[:, None]
    left = chosen & (before >= after)
    return left | F.pad((chosen & ~left)[:, :-1], (1, 0))


def _merged(x: Tensor, mass: Tensor, group: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Means of the groups, weighted by mass, and their masses; a token alone in its group stays as it was, bit for bit."""
    total = mass.new_zeros(len(mass), width).scatter_add(1, group, mass)
    part = (mass / total.gather(1, group).where(mass > 0, 1)).to(x.dtype)
    means = x.new_zeros(len(x), width, x.shape[2])
    return means.scatter_add(1, group[..., None].expand_as(x), x * part[..., None]), total
