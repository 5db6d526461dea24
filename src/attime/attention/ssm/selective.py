r"""Selective state-space layer: what is written, for how long it stays and what is read depend on the token.

    u = SiLU(conv(W_u x))      h = softplus(W_h W_low u + bias)      B, C = W_B u, W_C u      l = -exp(log_rate)
    s_t = exp(h_t l) s_{t-1} + h_t B_t u_t      y_t = C_t s_t + D u_t      out = W_o (y * SiLU(W_z x))

Source:  Mamba, arXiv 2312.00752, alg. 2 (S6), fig. 3 (block), sec. 3.6 (initialisation).
Names:   our `slots` is their N, `step` their Delta, `width` the size of the short convolution.
Cost:    time O(T inner slots); state inner (slots + width - 1) with inner = expand dim.
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
from attime.attention.kernels.scan import selective_scan, selective_scan_naive
from attime.attention.short_conv import short_conv
from attime.attention.state import State, state_dtype
from attime.errors import AttimeError

__all__ = ["Selective"]


@dataclass(frozen=True)
class SelectiveState(State):
    """The last inputs of the convolution, and the memory of each inner channel."""

    past: Float[Tensor, "batch before inner"]
    memory: Float[Tensor, "batch slots inner"]


@final
class Selective(Mixer):
    """Selective scan with short convolution and gate (see the module docstring).

    `rank` is that of the step's projection; None means dim / 16, rounded up.
    """

    traits: ClassVar[Traits] = Traits(bounded=True)

    def __init__(self, dim: int, *, slots: int = 16, width: int = 4, expand: int = 2, rank: int | None = None) -> None:
        super().__init__()
        rank = math.ceil(dim / 16) if rank is None else rank
        if min(dim, slots, width, expand, rank) < 1:
            raise AttimeError(
                f"Selective needs dim, slots, width, expand and rank >= 1; got {dim}, {slots}, {width}, {expand}, {rank}."
            )
        self.dim, self.slots, self.width, self.rank, self.inner = dim, slots, width, rank, expand * dim
        self.inputs = nn.Linear(dim, 2 * self.inner, bias=False)
        self.taps = nn.Parameter(torch.empty(self.inner, width).uniform_(-1, 1) * width**-0.5)
        self.tap_bias = nn.Parameter(torch.empty(self.inner).uniform_(-1, 1) * width**-0.5)
        self.choose = nn.Linear(self.inner, rank + 2 * slots, bias=False)
        self.step = nn.Linear(rank, self.inner)
        first = (torch.rand(self.inner) * math.log(100)).exp() * 0.001  # steps of 0.001 to 0.1 at first
        with torch.no_grad():
            self.step.weight.uniform_(-1, 1).mul_(rank**-0.5)
            self.step.bias.copy_(first + (-torch.expm1(-first)).log())  # the inverse of softplus
        self.log_rate = nn.Parameter(torch.arange(1.0, slots + 1).log()[:, None].repeat(1, self.inner))
        self.skip = nn.Parameter(torch.ones(self.inner))
        self.output = nn.Linear(self.inner, dim, bias=False)

    def begin(self, x: Tensor) -> SelectiveState:
        memory = x.new_zeros(x.shape[0], self.slots, self.inner, dtype=state_dtype(x.dtype))
        return SelectiveState(x.new_zeros(x.shape[0], self.width - 1, self.inner), memory)

    def mix(self, x: Tensor, state: SelectiveState, valid: Tensor | None) -> tuple[Tensor, SelectiveState]:
        u, gate = self.inputs(x).chunk(2, dim=-1)
        u, past = short_conv(u, self.taps, state.past, valid)
        u = F.silu(u + self.tap_bias)
        step, write, read = self._chosen(u, state.memory.dtype)
        if valid is not None:
            step = step * valid[..., None]
        wide = u.to(step.dtype)
        y, memory = selective_scan(wide, step, self._rate(step.dtype), write, read, state.memory)
        y = (y + self.skip.to(y.dtype) * wide).to(gate.dtype)
        return self.output(y * F.silu(gate)), SelectiveState(past, memory)

    def reference(self, x: Tensor) -> Tensor:
        u, gate = self.inputs(x).chunk(2, dim=-1)
        padded = F.pad(u, (0, 0, self.width - 1, 0))
        u = F.silu((padded.unfold(1, self.width, 1) * self.taps).sum(-1) + self.tap_bias)
        step, write, read = self._chosen(u, x.dtype)
        y, _ = selective_scan_naive(u, step, self._rate(x.dtype), write, read, self.begin(x).memory)
        return self.output((y + self.skip * u) * F.silu(gate))

    def _chosen(self, u: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        low, write, read = self.choose(u).split([self.rank, self.slots, self.slots], dim=-1)
        return F.softplus(self.step(low).to(dtype)), write.to(dtype), read.to(dtype)

    def _rate(self, dtype: torch.dtype) -> Tensor:
        return -self.log_rate.to(dtype).exp()

    def cost(self, length: int, dtype: torch.dtype = torch.float32) -> Cost:
        held, before = self.inner * self.slots, self.inner * (self.width - 1)
        size = held * state_dtype(dtype).itemsize + before * dtype.itemsize
        operations = 8 * held + 2 * self.inner * (self.width + 2 * self.slots + 2 * self.rank)
        return Cost(operations=operations, state_bytes=size, read_bytes=size)

    @classmethod
    def examples(cls) -> Sequence["Selective"]:
        return [cls(6, slots=4), cls(8, slots=3, width=1, expand=1, rank=2)]
