r"""Linear attention that overwrites: the gated delta rule, which erases what a key held before it writes.

    S_t = g_t (I - b_t k_t k_t^T) S_{t-1} + b_t k_t v_t^T        o_t = RMSNorm(S_t^T q_t) * SiLU(u_t)
    g_t = exp(-exp(A) softplus(W_a x_t + c))        b_t = sigmoid(W_b x_t)        q, k of length one

Source:  Gated Delta Networks, arXiv 2412.06464, eq. 10 and sec. 3.4 (the block); DeltaNet, arXiv 2406.06484.
Names:   our `g` is their alpha, `b` their beta; q, k and v pass a causal convolution of `width` tokens and SiLU.
Cost:    time O(T C d + T d^2) for chunks of C; state d^2 `expand` per head and the last `width` - 1 inputs.
Differs: keys are as wide as dim / heads; `expand` is 1 by default, theirs 2.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from attime.attention.contract import Cost, Mixer, Traits
from attime.attention.heads import join_heads, per_head, split_heads
from attime.attention.kernels.delta import recur_delta, recur_delta_naive
from attime.attention.short_conv import short_conv
from attime.attention.state import State, state_dtype
from attime.errors import AttimeError

__all__ = ["GatedDelta"]


@dataclass(frozen=True)
class GatedDeltaState(State):
    """What keys hold, and the last inputs of the convolution."""

    memory: Float[Tensor, "batch heads head_dim value_dim"]
    past: Float[Tensor, "batch before channels"]


@final
class GatedDelta(Mixer):
    """Linear attention by the gated delta rule (see the module docstring).

    Values are `expand` times as wide as keys; `width` tokens are in reach of the convolution.
    """

    traits: ClassVar[Traits] = Traits(bounded=True)

    def __init__(self, dim: int, *, heads: int = 2, expand: int = 1, width: int = 4) -> None:
        super().__init__()
        if expand < 1 or width < 1:
            raise AttimeError(f"GatedDelta needs expand >= 1 and width >= 1; got expand={expand}, width={width}.")
        self.dim, self.heads, self.expand, self.width = dim, heads, expand, width
        self.head_dim = per_head(dim, heads, who="GatedDelta")
        self.sizes = (dim, dim, expand * dim)
        self.inputs = nn.Linear(dim, sum(self.sizes), bias=False)
        self.gates = nn.Linear(dim, 2 * heads, bias=False)
        self.gate = nn.Linear(dim, expand * dim, bias=False)
        self.output = nn.Linear(expand * dim, dim, bias=False)
        self.taps = nn.Parameter(torch.empty(sum(self.sizes), width).uniform_(-1, 1) / math.sqrt(width))
        self.rate = nn.Parameter(torch.empty(heads).uniform_(1, 16).log())
        step = torch.empty(heads).uniform_(math.log(1e-3), math.log(0.1)).exp()
        self.step = nn.Parameter(step.expm1().log())  # softplus of it is the step
        self.scale = nn.Parameter(torch.ones(expand * self.head_dim))

    def begin(self, x: Tensor) -> GatedDeltaState:
        shape = (x.shape[0], self.heads, self.head_dim, self.expand * self.head_dim)
        memory = torch.zeros(shape, device=x.device, dtype=state_dtype(x.dtype))
        return GatedDeltaState(memory, x.new_zeros(x.shape[0], self.width - 1, sum(self.sizes)))

    def mix(self, x: Tensor, state: GatedDeltaState, valid: Tensor | None) -> tuple[Tensor, GatedDeltaState]:
        mixed, past = short_conv(self.inputs(x), self.taps, state.past, valid)
        q, k, v, log_decay, beta = self._tokens(x, mixed)
        if valid is not None:
            log_decay, beta = log_decay * valid[:, None], beta * valid[:, None]
        out, memory = recur_delta(q, k, v, log_decay, beta, state.memory)
        return self._read(x, out), GatedDeltaState(memory, past)

    def reference(self, x: Tensor) -> Tensor:
        padded = F.pad(self.inputs(x).mT, (self.width - 1, 0))
        mixed = F.conv1d(padded, self.taps[:, None], groups=sum(self.sizes)).mT
        return self._read(x, recur_delta_naive(*self._tokens(x, mixed), self.begin(x).memory)[0])

    def _tokens(self, x: Tensor, mixed: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        q, k, v = (split_heads(each, self.heads) for each in F.silu(mixed).split(self.sizes, dim=-1))
        q, k = F.normalize(q, dim=-1) / math.sqrt(self.head_dim), F.normalize(k, dim=-1)
        rise, beta = self.gates(x).mT.to(state_dtype(x.dtype)).chunk(2, dim=1)
        log_decay = -self.rate.to(rise.dtype).exp()[:, None] * F.softplus(rise + self.step[:, None])
        return q, k, v, log_decay, beta.sigmoid()

    def _read(self, x: Tensor, out: Tensor) -> Tensor:
        out = F.rms_norm(out, (out.shape[-1],), self.scale.to(out.dtype))
        return self.output(join_heads(out) * F.silu(self.gate(x)))

    def cost(self, length: int, dtype: torch.dtype = torch.float32) -> Cost:
        held = self.heads * self.head_dim**2 * self.expand
        size = held * state_dtype(dtype).itemsize + (self.width - 1) * sum(self.sizes) * dtype.itemsize
        return Cost(operations=7 * held + 2 * self.width * sum(self.sizes), state_bytes=size, read_bytes=size)

    @classmethod
    def examples(cls) -> Sequence["GatedDelta"]:
        return [cls(8), cls(12, heads=3, expand=2, width=2)]
