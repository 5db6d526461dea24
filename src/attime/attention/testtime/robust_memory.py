r"""A memory that learns at test time with the Huber loss: one wild value moves it no further than a bounded step.

    q, k, v = SiLU(conv(W x))      q, k to length one      e_t = M(k_t) - v_t
    loss_t = |e_t|^2 / 2 where |e_t| <= delta_t, else delta_t (|e_t| - delta_t / 2)
    M_t = (1 - alpha_t) M_{t-1} - theta_t grad(A; k_t, v_t)
    y_t = W_o (RMSNorm(M_t(q_t)) * sigmoid(W_g x_t))

theta, alpha in (0, 1) and delta > 0 per token and head. A are the weights at the start of the token's chunk of `chunk`
tokens, counted from the start of the stream. M_0 is learnt. With one layer and delta -> infinity this is the gated
delta rule (chunk 1).

Source:  Miras, arXiv 2504.13173, eq. 15 (Huber loss of the error's length), its model Yaad.
Names:   our `theta` is their eta, 1 - `alpha` their alpha; the thresholds are their delta_t.
Cost:    time O(T (chunk width + P)) for P weights; state 3 P.
Differs: Yaad's eq. 16 has the l1 gradient beyond the threshold, not the bounded l2 one. The errors handed to lower layers are bounded by delta too. No residual and LayerNorm in the memory. theta is
         divided by `chunk`. Scaled features: kernels.fit. No sliding-window branch.
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
from attime.attention.kernels.fit import Fitted, descend, descend_naive
from attime.attention.short_conv import short_conv
from attime.attention.state import State, state_dtype
from attime.errors import AttimeError

__all__ = ["RobustMemory"]


@dataclass(frozen=True)
class RobustState(State):
    """The last inputs of the convolution, and the network."""

    past: Float[Tensor, "batch before inner"]
    memory: Fitted


@final
class RobustMemory(Mixer):
    """Test-time memory with the Huber loss (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(bounded=True)

    def __init__(
        self, dim: int, *, heads: int = 2, layers: int = 2, expand: int = 1, chunk: int = 16, width: int = 4
    ) -> None:
        super().__init__()
        if min(layers, expand, chunk, width) < 1:
            raise AttimeError(
                f"RobustMemory needs layers, expand, chunk and width >= 1; got {layers}, {expand}, {chunk} and {width}."
            )
        self.dim, self.heads, self.head_dim = dim, heads, per_head(dim, heads, who="RobustMemory")
        self.chunk, self.width = chunk, width
        self.inputs = nn.Linear(dim, 4 * dim, bias=False)
        self.taps = nn.Parameter(torch.empty(3 * dim, width).uniform_(-1, 1) * width**-0.5)
        self.rates = nn.Linear(dim, 3 * heads)
        with torch.no_grad():  # long memory and a threshold of about one at first
            self.rates.bias.view(3, heads).copy_(torch.tensor([0.0, -5.0, 0.5])[:, None])
        widths = [self.head_dim, *[expand * self.head_dim] * (layers - 1), self.head_dim]
        self.start = nn.ParameterList(
            torch.randn(heads, *widths[layer : layer + 2]) * (1.0 if layer < layers - 1 else 0.1)
            for layer in range(layers)
        )
        self.output = nn.Linear(dim, dim, bias=False)

    def begin(self, x: Tensor) -> RobustState:
        start = [each.to(state_dtype(x.dtype)).expand(x.shape[0], -1, -1, -1) for each in self.start]
        return RobustState(x.new_zeros(x.shape[0], self.width - 1, 3 * self.dim), Fitted.start(start))

    def mix(self, x: Tensor, state: RobustState, valid: Tensor | None) -> tuple[Tensor, RobustState]:
        qkv, gate = self.inputs(x).split([3 * self.dim, self.dim], dim=-1)
        qkv, past = short_conv(qkv, self.taps, state.past, valid)
        arguments, bound = self._arguments(x, qkv, state.memory)
        out, memory = descend(*arguments, state=state.memory, chunk=self.chunk, bound=bound, valid=valid)
        return self._read(out, gate), RobustState(past, memory)

    def reference(self, x: Tensor) -> Tensor:
        qkv, gate = self.inputs(x).split([3 * self.dim, self.dim], dim=-1)
        qkv = (F.pad(qkv, (0, 0, self.width - 1, 0)).unfold(1, self.width, 1) * self.taps).sum(-1)
        memory = self.begin(x).memory
        arguments, bound = self._arguments(x, qkv, memory)
        return self._read(descend_naive(*arguments, state=memory, chunk=self.chunk, bound=bound)[0], gate)

    def _arguments(self, x: Tensor, qkv: Tensor, memory: Fitted) -> tuple[tuple[Tensor, ...], Tensor]:
        dtype = memory.weights[0].dtype
        q, k, v = (split_heads(each, self.heads).to(dtype) for each in F.silu(qkv).chunk(3, dim=-1))
        theta, alpha, delta = self.rates(x).to(dtype).mT.chunk(3, dim=1)
        q, k, still = F.normalize(q, dim=-1), F.normalize(k, dim=-1), torch.full_like(alpha, -torch.inf)
        return (q, k, v, theta.sigmoid() / self.chunk, F.logsigmoid(-alpha), still), F.softplus(delta) + 1e-3

    def _read(self, out: Tensor, gate: Tensor) -> Tensor:
        out = F.rms_norm(out, (self.head_dim,), eps=1e-10)
        return self.output(join_heads(out).to(gate.dtype) * gate.sigmoid())

    def cost(self, length: int, dtype: torch.dtype = torch.float32) -> Cost:
        held = sum(each.numel() for each in self.start)
        size = 3 * held * state_dtype(dtype).itemsize + (self.width - 1) * 3 * self.dim * dtype.itemsize + 8
        return Cost(operations=18 * held + 6 * self.dim * self.width, state_bytes=size, read_bytes=size)

    @classmethod
    def examples(cls) -> Sequence["RobustMemory"]:
        return [
            cls(8, chunk=4),
            cls(6, heads=1, layers=1, chunk=1, width=1),
            cls(6, heads=3, layers=3, expand=2, chunk=5),
        ]
