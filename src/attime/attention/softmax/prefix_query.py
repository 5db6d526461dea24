r"""Softmax attention of a learned query over the past: an RNN whose state does not grow.

    s_i = <q, k_i> / sqrt(head_dim)        o_t = sum_{i <= t} exp(s_i) v_i / sum_{i <= t} exp(s_i)
    state (top, weight, total):  top' = max(top, s),  weight' = e^{top - top'} weight + e^{s - top'},  total' likewise

Source:  Attention as an RNN (Aaren), arXiv 2405.13956, sec. 3.1 (recurrence), sec. 3.2 (prefix scan), sec. 3.3 (module).
Names:   their (m, u, w) and (m, c, a) are our (top, weight, total).
Cost:    time O(T dim); state dim + 2 heads.
Differs: the query is learned per head as it is; theirs is a learned token times a projection, the same functions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attime.attention.contract import Cost, Mixer, Traits
from attime.attention.heads import join_heads, per_head, split_heads
from attime.attention.kernels.merge import Triple, prefix_softmax
from attime.attention.state import State

__all__ = ["PrefixQuery"]


@dataclass(frozen=True)
class PrefixQueryState(State):
    """What each head's query has seen: greatest score, sum of weights and weighted sum of values relative to it."""

    top: Float[Tensor, "batch heads"]
    weight: Float[Tensor, "batch heads"]
    total: Float[Tensor, "batch heads head_dim"]


@final
class PrefixQuery(Mixer):
    """Attention with one learned, input-independent query per head (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(bounded=True)

    def __init__(self, dim: int, *, heads: int = 2) -> None:
        super().__init__()
        self.dim, self.heads, self.head_dim = dim, heads, per_head(dim, heads, who="PrefixQuery")
        self.query = nn.Parameter(torch.randn(heads, self.head_dim))
        self.inputs = nn.Linear(dim, 2 * dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)

    def begin(self, x: Tensor) -> PrefixQueryState:
        return PrefixQueryState(*Triple.empty(x.new_empty(x.shape[0], self.heads, 0, self.head_dim)))

    def mix(self, x: Tensor, state: PrefixQueryState, valid: Tensor | None) -> tuple[Tensor, PrefixQueryState]:
        scores, v = self._scores(x)
        if valid is not None:
            scores = scores.masked_fill(~valid[:, None], -torch.inf)
        with torch.autocast(x.device.type, enabled=False):
            out, seen = prefix_softmax(scores, v, Triple(state.top, state.weight, state.total))
        return self.output(join_heads(out).to(v.dtype)), PrefixQueryState(*seen)

    def reference(self, x: Tensor) -> Tensor:
        scores, v = self._scores(x)
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        weights = scores[:, :, None].expand(-1, -1, x.shape[1], -1).masked_fill(later, -torch.inf).softmax(-1)
        return self.output(join_heads(weights @ v))

    def _scores(self, x: Tensor) -> tuple[Tensor, Tensor]:
        k, v = (split_heads(each, self.heads) for each in self.inputs(x).chunk(2, dim=-1))
        wide = torch.promote_types(k.dtype, torch.float32)
        return (k.to(wide) * self.query.to(wide)[:, None]).sum(-1) * self.head_dim**-0.5, v

    def cost(self, length: int, dtype: torch.dtype = torch.float32) -> Cost:
        size = (self.dim + 2 * self.heads) * torch.promote_types(dtype, torch.float32).itemsize
        return Cost(operations=6 * self.dim + 8 * self.heads, state_bytes=size, read_bytes=size)

    @classmethod
    def examples(cls) -> Sequence["PrefixQuery"]:
        return [cls(8), cls(9, heads=3)]
