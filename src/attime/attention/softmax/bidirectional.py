r"""Softmax attention over the whole clip, in both directions: an encoder's mixer.

    o_t = sum_j softmax_j(q_t k_j^T / sqrt(d)) v_j        q, k turned by their position when rope=True

Source:  Attention Is All You Need, arXiv 1706.03762, sec. 3.2.
Cost:    time O(T^2 d); no state.
"""

from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attime.attention.contract import Cost, Mixer, Traits
from attime.attention.heads import join_heads, per_head, split_heads
from attime.attention.rotary import check_rotary, rotate, turns

__all__ = ["Bidirectional"]


@final
class Bidirectional(Mixer):
    """Softmax attention in both directions (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(causal=False)

    def __init__(self, dim: int, *, heads: int = 2, rope: bool = True, base: float = 10000.0) -> None:
        super().__init__()
        self.dim, self.heads, self.head_dim = dim, heads, per_head(dim, heads, who="Bidirectional")
        if rope:
            check_rotary(self.head_dim, who="Bidirectional")
        self.rope, self.base = rope, base
        self.inputs = nn.Linear(dim, 3 * dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)

    def mix(self, x: Tensor, state: None, valid: Tensor | None) -> tuple[Tensor, None]:
        mask = None if valid is None else valid[:, None, None, :]
        out = F.scaled_dot_product_attention(*self._project(x), attn_mask=mask)
        return self.output(join_heads(out).to(x.dtype)), None

    def reference(self, x: Tensor) -> Tensor:
        q, k, v = self._project(x)
        return self.output(join_heads((q @ k.mT / self.head_dim**0.5).softmax(-1) @ v))

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (split_heads(each, self.heads) for each in self.inputs(x).chunk(3, dim=-1))
        if self.rope:
            by = turns(torch.arange(x.shape[1], device=x.device)[None], self.head_dim, base=self.base)
            q, k = rotate(q, by), rotate(k, by)
        return q, k, v

    def cost(self, length: int, dtype: torch.dtype = torch.float32) -> Cost:
        read = 2 * length * self.dim * dtype.itemsize
        return Cost(operations=4 * self.dim * length, state_bytes=0, read_bytes=read)

    @classmethod
    def examples(cls) -> Sequence["Bidirectional"]:
        return [cls(8), cls(12, heads=4, rope=False)]
