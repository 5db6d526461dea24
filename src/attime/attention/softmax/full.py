r"""Softmax attention over the whole past.

    o_t = sum_{j <= t} softmax_j(q_t k_j^T / sqrt(d)) v_j        q, k turned by their position when rope=True

Source:  Attention Is All You Need, arXiv 1706.03762, sec. 3.2; grouped queries, arXiv 2305.13245, sec. 2.2.
Cost:    time O(T^2 d); state 2 `kv_heads` `head_dim` numbers and a position per token of the past.
"""

from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from attime.attention.contract import Cost, Mixer, Traits
from attime.attention.heads import join_heads, per_head, split_heads
from attime.attention.past import Past, attend_past
from attime.attention.rotary import check_rotary, rotate, turns
from attime.attention.spans import Causal
from attime.errors import AttimeError

__all__ = ["Softmax"]


@final
class Softmax(Mixer):
    """Softmax attention over the whole past (see the module docstring).

    `kv_heads` < `heads`: groups of query heads share keys and values.
    """

    traits: ClassVar[Traits] = Traits()

    def __init__(
        self, dim: int, *, heads: int = 2, kv_heads: int | None = None, rope: bool = True, base: float = 10000.0
    ) -> None:
        super().__init__()
        self.dim, self.heads, self.head_dim = dim, heads, per_head(dim, heads, who="Softmax")
        self.kv_heads = heads if kv_heads is None else kv_heads
        if self.kv_heads < 1 or heads % self.kv_heads:
            raise AttimeError(f"Softmax needs kv_heads >= 1 that divide heads; got heads={heads}, kv_heads={kv_heads}.")
        if rope:
            check_rotary(self.head_dim, who="Softmax")
        self.rope, self.base = rope, base
        self.queries = nn.Linear(dim, dim, bias=False)
        self.keys_values = nn.Linear(dim, 2 * self.kv_heads * self.head_dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)

    def begin(self, x: Tensor) -> Past:
        return Past.empty(x, self.kv_heads, self.head_dim)

    def mix(self, x: Tensor, state: Past, valid: Tensor | None) -> tuple[Tensor, Past]:
        when = torch.arange(x.shape[1], device=x.device)[None] + state.seen[:, None]
        q, k, v = self._project(x, when if state.slots else when[:1])
        joined = state.append(k, v, when if valid is None else when.masked_fill(~valid, -1))
        out = self.output(join_heads(attend_past(q, joined, Causal())).to(x.dtype))
        return out, joined if valid is None else joined.aligned()

    def reference(self, x: Tensor) -> Tensor:
        time = torch.arange(x.shape[1], device=x.device)
        q, k, v = self._project(x, time[None])
        k, v = (each.repeat_interleave(self.heads // self.kv_heads, 1) for each in (k, v))
        scores = q @ k.mT / self.head_dim**0.5
        weights = scores.masked_fill(time > time[:, None], -torch.inf).softmax(-1)
        return self.output(join_heads(weights @ v))

    def _project(self, x: Tensor, when: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        k, v = self.keys_values(x).chunk(2, dim=-1)
        q, k, v = split_heads(self.queries(x), self.heads), split_heads(k, self.kv_heads), split_heads(v, self.kv_heads)
        if self.rope:
            by = turns(when, self.head_dim, base=self.base)
            q, k = rotate(q, by), rotate(k, by)
        return q, k, v

    def cost(self, length: int, dtype: torch.dtype = torch.float32) -> Cost:
        size = 2 * length * self.kv_heads * self.head_dim * dtype.itemsize
        held = size + length * torch.int64.itemsize
        return Cost(operations=4 * self.dim * (length + 1), state_bytes=held, read_bytes=size)

    @classmethod
    def examples(cls) -> Sequence["Softmax"]:
        return [cls(8), cls(16, heads=4, kv_heads=2, base=500.0), cls(12, heads=4, kv_heads=1, rope=False)]
