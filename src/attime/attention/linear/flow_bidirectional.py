r"""Flow attention over a whole clip: what flows out of a source and into a sink is conserved, in linear time.

    I_t = q_t . sum k_s     O_s = k_s . sum q_t        Î_t = q_t . sum k_s / O_s     Ô_s = k_s . sum q_t / I_t
    y_t = sigmoid(Î_t) (q_t / I_t)^T sum_s k_s (c_s v_s)^T        c = n softmax(Ô),  q, k = sigmoid

Source:  Flowformer, arXiv 2202.06258, sec. 3.2.
Names:   n tokens; our `into`, `outof` are their I and O.
Cost:    time O(T d^2), no state.
Differs: as in the released code, 1e-6 stands beside every query, key and sum, Ô is cut to [-1, 1], and c has the n.
"""

from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from attime.attention.contract import Cost, Mixer, Traits
from attime.attention.heads import join_heads, per_head, split_heads
from attime.attention.state import state_dtype

__all__ = ["FlowBidirectional"]

EPS = 1e-6


@final
class FlowBidirectional(Mixer):
    """Flow attention in both directions of time (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(causal=False)

    def __init__(self, dim: int, *, heads: int = 4) -> None:
        super().__init__()
        self.dim, self.heads, self.head_dim = dim, heads, per_head(dim, heads, who="FlowBidirectional")
        self.inputs = nn.Linear(dim, 3 * dim)
        self.output = nn.Linear(dim, dim)

    def mix(self, x: Tensor, state: None, valid: Tensor | None) -> tuple[Tensor, None]:
        q, k, v = self._project(x)
        mask = q.new_ones(1, 1, 1, 1) if valid is None else valid[:, None, :, None].to(q.dtype)
        q, k = q * mask, k * mask
        count = x.shape[1] if valid is None else mask.sum(2, keepdim=True)
        into, outof = _flow(q, k.sum(2)), _flow(k, q.sum(2))
        allocation = _flow(q, (k / outof).sum(2)).sigmoid()
        crowding = _flow(k, (q / into).sum(2)).clamp(-1.0, 1.0)
        worth = (crowding - 1).exp() * mask
        worth = worth / worth.sum(2, keepdim=True).clamp(min=0.1) * count
        with torch.autocast(x.device.type, enabled=False):
            out = (q / into) @ (k.mT @ (v * worth)) * allocation
        return self.output(join_heads(out).to(x.dtype)), None

    def reference(self, x: Tensor) -> Tensor:
        q, k, v = self._project(x)
        pairs = torch.einsum("b h t d, b h s d -> b h t s", q, k)  # the capacity from every source to every sink
        from_eps, to_eps = EPS * (k + EPS).sum(-1), EPS * (q + EPS).sum(-1)  # what 1e-6 adds to a source, to a sink
        into = pairs.sum(3) + EPS * k.sum((2, 3))[..., None] + to_eps
        outof = pairs.sum(2) + EPS * q.sum((2, 3))[..., None] + from_eps
        saved = k / outof[..., None]
        given = q / into[..., None]
        allocation = (torch.einsum("b h t d, b h s d -> b h t", q + EPS, saved) + to_eps).sigmoid()
        crowding = (torch.einsum("b h s d, b h t d -> b h s", k + EPS, given) + from_eps).clamp(-1, 1)
        weights = pairs / into[..., None] * (crowding.softmax(-1) * x.shape[1])[:, :, None]
        return self.output(join_heads(allocation[..., None] * torch.einsum("b h t s, b h s d -> b h t d", weights, v)))

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (split_heads(each, self.heads).to(state_dtype(x.dtype)) for each in self.inputs(x).chunk(3, dim=-1))
        return q.sigmoid(), k.sigmoid(), v

    def cost(self, length: int, dtype: torch.dtype = torch.float32) -> Cost:
        return Cost(operations=4 * self.heads * self.head_dim**2 + 20 * self.dim, state_bytes=0, read_bytes=0)

    @classmethod
    def examples(cls) -> Sequence["FlowBidirectional"]:
        return [cls(8), cls(12, heads=3)]


def _flow(x: Tensor, total: Tensor) -> Tensor:
    return ((x + EPS) * (total[:, :, None] + EPS)).sum(-1, keepdim=True)
