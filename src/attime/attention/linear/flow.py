r"""Flow attention, causal: linear attention whose tokens compete as sources and are allocated to as sinks.

    I_t = q_t . mean k_s     O_s = k_s . mean q_t        (flow into a sink, out of a source; means over s, t so far)
    Î_t = q_t . mean (k_s / O_s)        Ô_s = k_s . mean (q_t / I_t)        q, k = sigmoid
    c_s = s exp(Ô_s) / sum_{r<=s} exp(Ô_r)        y_t = sigmoid(Î_t) (q_t / I_t)^T (1/t) sum_{s<=t} k_s (c_s v_s)^T

Source:  Flowformer, arXiv 2202.06258, sec. 3.2 (conservation, competition, allocation) and its causal version.
Names:   our `into`, `outof` are their I and O; `crowding` is their Ô.
Cost:    time O(T C d + T d^2) for blocks of C; state d^2 + 4 d per head.
Differs: as in the released code, 1e-6 stands beside every query, key and sum, and Ô is cut to [-1, 1].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attime.attention.contract import Cost, Mixer, Traits
from attime.attention.heads import join_heads, per_head, split_heads
from attime.attention.kernels.recurrence import recur
from attime.attention.state import State, state_dtype

__all__ = ["Flow"]

Sum = Float[Tensor, "batch heads head_dim"]
EPS = 1e-6


@dataclass(frozen=True)
class FlowState(State):
    """Sums over the tokens so far."""

    seen: Int[Tensor, " batch"]
    keys: Sum
    queries: Sum
    shared_keys: Sum
    """Of keys divided by their outgoing flow."""
    shared_queries: Sum
    """Of queries divided by their incoming flow."""
    crowd: Float[Tensor, "batch heads"]
    """Of exp(Ô)."""
    memory: Float[Tensor, "batch heads head_dim head_dim"]


@final
class Flow(Mixer):
    """Causal flow attention (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(bounded=True)

    def __init__(self, dim: int, *, heads: int = 4) -> None:
        super().__init__()
        self.dim, self.heads, self.head_dim = dim, heads, per_head(dim, heads, who="Flow")
        self.inputs = nn.Linear(dim, 3 * dim)
        self.output = nn.Linear(dim, dim)

    def begin(self, x: Tensor) -> FlowState:
        rows, dtype = (x.shape[0], self.heads), state_dtype(x.dtype)
        memory = torch.zeros(*rows, self.head_dim, self.head_dim, device=x.device, dtype=dtype)
        none, seen = memory[..., 0], torch.zeros(x.shape[0], device=x.device, dtype=torch.int64)
        return FlowState(seen, none, none, none, none, none[..., 0], memory)

    def mix(self, x: Tensor, state: FlowState, valid: Tensor | None) -> tuple[Tensor, FlowState]:
        q, k, v = self._project(x)
        time = x.shape[1]
        mask = torch.ones(1, 1, time, device=x.device, dtype=q.dtype) if valid is None else valid[:, None].to(q.dtype)
        count = state.seen[:, None, None] + torch.arange(1, time + 1, device=x.device)
        places = count.to(q.dtype)[..., None]
        mask = mask[..., None]
        q, k = q * mask, k * mask

        keys, queries = _running(k, state.keys), _running(q, state.queries)
        into, outof = _flow(q, keys) / places, _flow(k, queries) / places
        shared_keys = _running(k / outof, state.shared_keys)
        shared_queries = _running(q / into, state.shared_queries)
        allocation = (_flow(q, shared_keys) / places).sigmoid()
        crowding = (_flow(k, shared_queries) / places).clamp(-1.0, 1.0).exp() * mask
        crowd = _running(crowding, state.crowd[..., None])
        out, memory = recur(q / (into * places), k, v * (crowding / crowd.clamp(min=0.1) * places), None, state.memory)
        out = join_heads(out * allocation).to(x.dtype)
        seen = state.seen + (time if valid is None else valid.sum(1))
        keys, queries, shared_keys, shared_queries, crowd = (
            each[:, :, -1] for each in (keys, queries, shared_keys, shared_queries, crowd)
        )
        return self.output(out), FlowState(seen, keys, queries, shared_keys, shared_queries, crowd[..., 0], memory)

    def reference(self, x: Tensor) -> Tensor:
        q, k, v = self._project(x)
        shares_q, shares_k, crowding, worth, out = [], [], [], [], []
        for t in range(x.shape[1]):
            now = t + 1
            shares_q.append(q[:, :, t] / (_flow(q[:, :, t], k[:, :, :now].sum(2)) / now))
            shares_k.append(k[:, :, t] / (_flow(k[:, :, t], q[:, :, :now].sum(2)) / now))
            allocation = (_flow(q[:, :, t], sum(shares_k, torch.zeros(()))) / now).sigmoid()
            crowding.append((_flow(k[:, :, t], sum(shares_q, torch.zeros(()))) / now).clamp(-1, 1).exp())
            worth.append(v[:, :, t] * crowding[-1] / sum(crowding) * now)
            weights = torch.einsum("b h d, b h s d -> b h s", shares_q[-1], k[:, :, :now]) / now
            out.append(allocation * torch.einsum("b h s, b h s d -> b h d", weights, torch.stack(worth, 2)))
        return self.output(join_heads(torch.stack(out, dim=2)))

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (split_heads(each, self.heads).to(state_dtype(x.dtype)) for each in self.inputs(x).chunk(3, dim=-1))
        return q.sigmoid(), k.sigmoid(), v

    def cost(self, length: int, dtype: torch.dtype = torch.float32) -> Cost:
        matrix = self.heads * self.head_dim**2
        size = (matrix + 4 * self.dim + self.heads) * state_dtype(dtype).itemsize + torch.int64.itemsize
        return Cost(operations=4 * matrix + 24 * self.dim, state_bytes=size, read_bytes=size)

    @classmethod
    def examples(cls) -> Sequence["Flow"]:
        return [cls(8), cls(12, heads=3)]


def _running(x: Tensor, past: Tensor) -> Tensor:
    return past[:, :, None] + x.cumsum(2)


def _flow(x: Tensor, total: Tensor) -> Tensor:
    return ((x + EPS) * (total + EPS)).sum(-1, keepdim=True)
