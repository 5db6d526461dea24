r"""Linear attention over a whole clip of any number of axes in one scan: keys are a softmax over all places.

    K = softmax over places of k        S = K^T V        o_n = RMSNorm(S^T silu(q_n)) * silu(gate_n)

No place is nearer than another, so one pass serves time, height and width alike, where a decay needs one per direction.

Source:  LightNet, arXiv 2405.21022 (non-causal form of the additive linear recurrence).
Cost:    time O(N d^2) for N places, no state.
Differs: positions (MD-TPE, MD-LRPE) are not part of the mixer: without them it does not see order.
"""

from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attime.attention.contract import Cost, Mixer, Traits
from attime.attention.heads import join_heads, per_head, split_heads

__all__ = ["LightNetGrid"]


@final
class LightNetGrid(Mixer):
    """Linear attention with keys normalised over a grid (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(causal=False, grid=True, valid=False)

    def __init__(self, dim: int, *, heads: int = 2, gate_dim: int = 128) -> None:
        super().__init__()
        self.dim, self.heads, self.head_dim = dim, heads, per_head(dim, heads, who="LightNetGrid")
        self.inputs = nn.Linear(dim, 3 * dim, bias=False)
        self.gate = nn.Sequential(nn.Linear(dim, gate_dim, bias=False), nn.Linear(gate_dim, dim, bias=False))
        self.norm = nn.Parameter(torch.ones(dim))
        self.output = nn.Linear(dim, dim, bias=False)

    def mix(self, x: Tensor, state: None, valid: Tensor | None) -> tuple[Tensor, None]:
        q, k, v = self._project(x)
        with torch.autocast(x.device.type, enabled=False):
            out = q @ (k.softmax(dim=2).mT @ v)
        return self._emit(x, out), None

    def reference(self, x: Tensor) -> Tensor:
        q, k, v = self._project(x)
        shares = k.exp() / k.exp().sum(2, keepdim=True)
        pairs = torch.einsum("b h n i, b h m i -> b h n m", q, shares)
        return self._emit(x, torch.einsum("b h n m, b h m j -> b h n j", pairs, v))

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.inputs(x.flatten(1, -2)).chunk(3, dim=-1)
        wide = torch.promote_types(x.dtype, torch.float32)
        q, k, v = (split_heads(each, self.heads).to(wide) for each in (F.silu(q), k, v))
        return q, k, v

    def _emit(self, x: Tensor, out: Tensor) -> Tensor:
        out = F.rms_norm(join_heads(out), (self.dim,), self.norm.to(out.dtype), 1e-5).view(x.shape)
        return self.output(out.to(x.dtype) * F.silu(self.gate(x)))

    def cost(self, length: int, dtype: torch.dtype = torch.float32) -> Cost:
        return Cost(operations=4 * self.heads * self.head_dim**2 + 5 * self.dim, state_bytes=0, read_bytes=0)

    @classmethod
    def examples(cls) -> Sequence["LightNetGrid"]:
        return [cls(8, gate_dim=4), cls(12, heads=3)]
