r"""Linear attention whose keys are a running softmax over time: each channel keeps a weighted mean of the values.

    z_t = log sum_{s<=t} exp(k_s)        S_t = diag(exp(z_{t-1} - z_t)) S_{t-1} + exp(k_t - z_t) v_t^T
    o_t = RMSNorm(S_t^T silu(q_t)) * silu(gate_t)

The two factors sum to one in every channel: nothing decays with time alone, only as new weight comes in.

Source:  LightNet, arXiv 2405.21022 (additive linear recurrence, low-rank output gate).
Cost:    time O(T C d + T d^2) for blocks of C; state d^2 + d per head.
Differs: positions (MD-TPE, MD-LRPE) are not part of the mixer. Order-free, over grids: `LightNetGrid`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from attime.attention.contract import Cost, Mixer, Traits
from attime.attention.heads import join_heads, per_head, split_heads
from attime.attention.kernels.recurrence import recur
from attime.attention.state import State, state_dtype

__all__ = ["LightNet"]

NOTHING = -1e30  # the logarithm of no weight at all, finite so that differences are


@dataclass(frozen=True)
class LightNetState(State):
    """The weight seen so far, as a logarithm, and the weighted mean of the values, per channel of the key."""

    weight: Float[Tensor, "batch heads head_dim"]
    memory: Float[Tensor, "batch heads head_dim head_dim"]


@final
class LightNet(Mixer):
    """Linear attention with running-softmax keys (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(bounded=True)

    def __init__(self, dim: int, *, heads: int = 2, gate_dim: int = 128) -> None:
        super().__init__()
        self.dim, self.heads, self.head_dim = dim, heads, per_head(dim, heads, who="LightNet")
        self.inputs = nn.Linear(dim, 3 * dim, bias=False)
        self.gate = nn.Sequential(nn.Linear(dim, gate_dim, bias=False), nn.Linear(gate_dim, dim, bias=False))
        self.norm = nn.Parameter(torch.ones(dim))
        self.output = nn.Linear(dim, dim, bias=False)

    def begin(self, x: Tensor) -> LightNetState:
        shape = (x.shape[0], self.heads, self.head_dim)
        weight = torch.full(shape, NOTHING, device=x.device, dtype=state_dtype(x.dtype))
        return LightNetState(weight, torch.zeros(*shape, self.head_dim, device=x.device, dtype=weight.dtype))

    def mix(self, x: Tensor, state: LightNetState, valid: Tensor | None) -> tuple[Tensor, LightNetState]:
        q, k, v = self._project(x)
        if valid is not None:
            k = k.masked_fill(~valid[:, None, :, None], NOTHING)
        weight = torch.logaddexp(state.weight[:, :, None], k.logcumsumexp(2))
        before = torch.cat([state.weight[:, :, None], weight[:, :, :-1]], dim=2)
        new = (k - before).sigmoid()  # exp(k_t - z_t), and its complement: no difference of large numbers
        log_kept = F.logsigmoid(before - k).masked_fill(before <= NOTHING / 2, 0.0)  # an empty memory stays empty
        if valid is not None:
            new = new * valid[:, None, :, None]
        out, memory = recur(q, new, v, log_kept, state.memory)
        return self._emit(x, out), LightNetState(weight[:, :, -1], memory)

    def reference(self, x: Tensor) -> Tensor:
        q, k, v = self._project(x)
        out = []
        for t in range(x.shape[1]):
            shares = k[:, :, : t + 1].softmax(dim=2)
            out.append(torch.einsum("b h i, b h s i, b h s j -> b h j", q[:, :, t], shares, v[:, :, : t + 1]))
        return self._emit(x, torch.stack(out, dim=2))

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.inputs(x).chunk(3, dim=-1)
        q, k, v = (split_heads(each, self.heads).to(state_dtype(x.dtype)) for each in (F.silu(q), k, v))
        return q, k, v

    def _emit(self, x: Tensor, out: Tensor) -> Tensor:
        out = F.rms_norm(join_heads(out), (self.dim,), self.norm.to(out.dtype), 1e-5)
        return self.output(out.to(x.dtype) * F.silu(self.gate(x)))

    def cost(self, length: int, dtype: torch.dtype = torch.float32) -> Cost:
        matrix = self.heads * self.head_dim**2
        size = (matrix + self.dim) * state_dtype(dtype).itemsize
        return Cost(operations=5 * matrix + 12 * self.dim, state_bytes=size, read_bytes=size)

    @classmethod
    def examples(cls) -> Sequence["LightNet"]:
        return [cls(8, gate_dim=4), cls(12, heads=3)]
