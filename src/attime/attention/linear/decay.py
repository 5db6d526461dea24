r"""Gated linear attention with one fixed decay per head, and no softmax denominator.

    S_t = g S_{t-1} + k_t v_t^T        o_t = RMSNorm(S_t^T q_t) * u_t        q, k = SiLU

Source:  Lightning Attention, arXiv 2405.17381; TransNormerLLM, arXiv 2307.14995 (decay table, gate, norm).
Names:   our `decay` is their lambda: exp(-(8 h / H) (1 - l / L)) for head h of H in layer l of L.
Cost:    time O(T C d + T d^2) for chunks of C; state d^2 per head.
Differs: no rotation in the first layer (LRPE); parameter-free norm as in the paper.
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
from attime.attention.kernels.recurrence import recur, recur_naive
from attime.attention.state import State

__all__ = ["Decay"]


@dataclass(frozen=True)
class DecayState(State):
    """The decayed sum of key-value products."""

    memory: Float[Tensor, "batch heads head_dim head_dim"]


@final
class Decay(Mixer):
    """Linear attention with a fixed decay per head (see the module docstring).

    `layer` and `layers` say where in a stack it stands: upper layers forget more slowly.
    """

    traits: ClassVar[Traits] = Traits(bounded=True)

    def __init__(self, dim: int, *, heads: int = 2, layer: int = 0, layers: int = 2) -> None:
        super().__init__()
        self.dim, self.heads, self.head_dim = dim, heads, per_head(dim, heads, who="Decay")
        self.inputs = nn.Linear(dim, 4 * dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)
        slopes = torch.arange(1, heads + 1) * (8 / heads) * (1 - layer / layers)
        self.register_buffer("log_decay", -slopes.double(), persistent=False)

    def begin(self, x: Tensor) -> DecayState:
        shape = (x.shape[0], self.heads, self.head_dim, self.head_dim)
        return DecayState(torch.zeros(shape, device=x.device, dtype=_wide(x.dtype)))

    def mix(self, x: Tensor, state: DecayState, valid: Tensor | None) -> tuple[Tensor, DecayState]:
        return self._mix(x, state, valid, recur)

    def reference(self, x: Tensor) -> Tensor:
        return self._mix(x, self.begin(x), None, recur_naive)[0]

    def _mix(self, x, state, valid, form):
        q, k, v, gate = self.inputs(x).chunk(4, dim=-1)
        q, k, v = (split_heads(each, self.heads).to(state.memory.dtype) for each in (F.silu(q), F.silu(k), v))
        decay = self.log_decay.to(q.dtype)[:, None].expand(x.shape[0], -1, x.shape[1])
        if valid is not None:
            decay, k = decay * valid[:, None], k * valid[:, None, :, None]
        out, memory = form(q, k, v, decay, state.memory)
        out = F.rms_norm(out, (self.head_dim,))
        return self.output(join_heads(out).to(gate.dtype) * gate), DecayState(memory)

    def cost(self, length: int, dtype: torch.dtype = torch.float32) -> Cost:
        held = self.heads * self.head_dim**2
        size = held * _wide(dtype).itemsize
        return Cost(operations=5 * held, state_bytes=size, read_bytes=size)

    @classmethod
    def examples(cls) -> Sequence["Decay"]:
        return [cls(8), cls(12, heads=3, layer=1)]


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
