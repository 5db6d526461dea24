"""The attention that queries to come are expected to pay, if they are distributed like the last ones.

    q ~ N(m, C)   E exp(q . k) = exp(m . k + k C k / 2)   score = softmax(log of it) * ||v||
    m, C: of the last queries, brought to the present and then turned by the mean rotation over the next `ahead` tokens

Source:  Expected attention, arXiv 2510.00636, sec. 3, and its public code (512 positions ahead, values' norms).
Cost:    entries * head_dim^2 per query head and tick.
Differs: the statistics are of the last queries as they were (any kind of model and of query normalisation), not of hidden
         states of the whole prompt; sinks are not left out of the softmax; positions are relative to the present.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from attime.errors import AttimeError
from attime.memory.contract import Traits
from attime.memory.evict.contract import Rates, Score
from attime.memory.past import Past
from attime.memory.rotary import Rotary

__all__ = ["Expected"]

Square = Float[Tensor, "head_dim head_dim"]


@final
@dataclass(frozen=True, kw_only=True)
class Expected(Score):
    """Keeps what coming queries are expected to attend to (see the module docstring)."""

    observed: int = 128
    """Queries from which those to come are guessed."""
    ahead: int = 512
    values: bool = True
    """Times the norm of the value."""

    def __post_init__(self) -> None:
        if self.observed < 1 or self.ahead < 1:
            raise AttimeError(
                f"Expected needs observed >= 1 and ahead >= 1; got observed={self.observed}, ahead={self.ahead}."
            )

    def evidence(self) -> Traits:
        return replace(self.traits, queries=self.observed)

    def rate(self, past: Past) -> Rates:
        assert past.queries is not None
        assert past.scoring is not None
        recent = past.queries.now.transpose(1, 2)
        lanes, groups, last, dim = recent.shape
        q = recent.flatten(0, 1).to(torch.promote_types(recent.dtype, torch.float32))
        if past.rotate is not None:
            age = torch.arange(last - 1, -1, -1, device=q.device).expand(len(q), -1)
            basis = torch.eye(dim, dtype=q.dtype, device=q.device)
            q = past.rotate(q, age) @ (_turned(past.rotate, basis, self.ahead) / self.ahead)
        mean = q.mean(1, keepdim=True)
        spread = (q - mean).transpose(1, 2) @ (q - mean) / last
        mean, spread = (each.view(lanes, groups, *each.shape[1:]) * past.scoring.scale for each in (mean, spread))
        made = []
        for bank in past.banks:
            keys, values = bank.keys()[:, None].to(q.dtype), bank.values()
            curve = ((keys @ spread[bank.lanes]) * keys).sum(-1) * past.scoring.scale / 2
            logits = (keys @ mean[bank.lanes].transpose(2, 3))[..., 0] + curve
            rates = logits.softmax(-1).mean(1)
            made.append(rates * values.norm(dim=-1) if self.values else rates)
        return made

    @classmethod
    def examples(cls) -> Sequence["Expected"]:
        return [cls(observed=8, ahead=5), cls(observed=3, values=False)]


def _turned(rotate: Rotary, basis: Square, ahead: int) -> Square:
    """The sum of the basis turned by 1, 2, ..., `ahead` positions, in log2(ahead) turns."""
    if ahead == 0:
        return torch.zeros_like(basis)
    half = _turned(rotate, basis, ahead // 2)
    both = half + _by(rotate, half, ahead // 2)
    return both + _by(rotate, basis, ahead) if ahead % 2 else both


def _by(rotate: Rotary, rows: Square, positions: int) -> Square:
    return rotate(rows[None], torch.full((1, len(rows)), positions, device=rows.device))[0]
