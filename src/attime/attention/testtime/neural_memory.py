r"""Neural long-term memory: a small network per head that learns the past while it reads it.

    q, k, v = SiLU(conv(W x))      q, k to length one      loss_t = |M(k_t) - v_t|^2 / 2
    S_t = eta_t S_{t-1} - theta_t grad(A; k_t, v_t)      M_t = (1 - alpha_t) M_{t-1} + S_t
    y_t = W_o (RMSNorm(M_t(q_t)) * sigmoid(W_g x_t))

theta, eta, alpha in (0, 1) per token and head. A are the weights at the start of the token's chunk of `chunk` tokens,
counted from the start of the stream; M_t holds all steps up to and including its own token: a query sees the past
exactly as the equation says, not as of its last full chunk. M_0 is learnt.

Source:  Titans, arXiv 2501.00663, eq. 8-15, sec. 3.1-3.2 (memory), sec. 4.4 (projections, convolution, gate).
Names:   our `layers` is their L_M; `chunk` is their b.
Cost:    time O(T (chunk width + P)) for P weights; state 3 P.
Differs: theta is divided by `chunk`, so that a chunk of equal keys cannot overshoot, and each token's error is bounded
         in length by `bound` (inf: no bound); the paper states neither. Scaled features, halved loss: kernels.fit.
         lucidrains/titans-pytorch, unofficial, has one momentum and decay per chunk and reads the last full chunk.
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
from attime.attention.kernels.fit import Fitted, descend, descend_naive
from attime.attention.short_conv import short_conv
from attime.attention.state import State, state_dtype
from attime.errors import AttimeError

__all__ = ["NeuralMemory"]


@dataclass(frozen=True)
class NeuralState(State):
    """The last inputs of the convolution, and the network."""

    past: Float[Tensor, "batch before inner"]
    memory: Fitted


@final
class NeuralMemory(Mixer):
    """Titans' memory as a mixer (see the module docstring). `expand` is the hidden width over the head's width."""

    traits: ClassVar[Traits] = Traits(bounded=True)

    def __init__(
        self,
        dim: int,
        *,
        heads: int = 2,
        layers: int = 2,
        expand: int = 1,
        chunk: int = 16,
        width: int = 4,
        bound: float = 10.0,
    ) -> None:
        super().__init__()
        if min(layers, expand, chunk, width) < 1 or bound <= 0:
            raise AttimeError(
                "NeuralMemory needs layers, expand, chunk and width >= 1 and bound > 0; "
                f"got {layers}, {expand}, {chunk}, {width} and {bound}."
            )
        self.dim, self.heads, self.head_dim = dim, heads, per_head(dim, heads, who="NeuralMemory")
        self.chunk, self.width, self.bound = chunk, width, bound
        self.inputs = nn.Linear(dim, 4 * dim, bias=False)
        self.taps = nn.Parameter(torch.empty(3 * dim, width).uniform_(-1, 1) * width**-0.5)
        self.rates = nn.Linear(dim, 3 * heads)
        with torch.no_grad():
            self.rates.bias.view(3, heads).copy_(torch.tensor([0.0, 0.0, -5.0])[:, None])  # long memory at first
        widths = [self.head_dim, *[expand * self.head_dim] * (layers - 1), self.head_dim]
        self.start = nn.ParameterList(
            torch.randn(heads, *widths[layer : layer + 2]) * (1.0 if layer < layers - 1 else 0.1)
            for layer in range(layers)
        )
        self.output = nn.Linear(dim, dim, bias=False)

    def begin(self, x: Tensor) -> NeuralState:
        start = [each.to(state_dtype(x.dtype)).expand(x.shape[0], -1, -1, -1) for each in self.start]
        return NeuralState(x.new_zeros(x.shape[0], self.width - 1, 3 * self.dim), Fitted.start(start))

    def mix(self, x: Tensor, state: NeuralState, valid: Tensor | None) -> tuple[Tensor, NeuralState]:
        qkv, gate = self.inputs(x).split([3 * self.dim, self.dim], dim=-1)
        qkv, past = short_conv(qkv, self.taps, state.past, valid)
        arguments, bound = self._arguments(x, qkv, state.memory)
        out, memory = descend(*arguments, state=state.memory, chunk=self.chunk, bound=bound, valid=valid)
        return self._read(out, gate), NeuralState(past, memory)

    def reference(self, x: Tensor) -> Tensor:
        qkv, gate = self.inputs(x).split([3 * self.dim, self.dim], dim=-1)
        qkv = (F.pad(qkv, (0, 0, self.width - 1, 0)).unfold(1, self.width, 1) * self.taps).sum(-1)
        memory = self.begin(x).memory
        arguments, bound = self._arguments(x, qkv, memory)
        return self._read(descend_naive(*arguments, state=memory, chunk=self.chunk, bound=bound)[0], gate)

    def _arguments(self, x: Tensor, qkv: Tensor, memory: Fitted) -> tuple[tuple[Tensor, ...], Tensor | None]:
        dtype = memory.weights[0].dtype
        q, k, v = (split_heads(each, self.heads).to(dtype) for each in F.silu(qkv).chunk(3, dim=-1))
        theta, eta, alpha = self.rates(x).to(dtype).mT.chunk(3, dim=1)
        log_keep, log_momentum = F.logsigmoid(-alpha), F.logsigmoid(eta)
        bound = None if math.isinf(self.bound) else torch.full_like(theta, self.bound)
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        return (q, k, v, theta.sigmoid() / self.chunk, log_keep, log_momentum), bound

    def _read(self, out: Tensor, gate: Tensor) -> Tensor:
        out = F.rms_norm(out, (self.head_dim,), eps=1e-10)
        return self.output(join_heads(out).to(gate.dtype) * gate.sigmoid())

    def cost(self, length: int, dtype: torch.dtype = torch.float32) -> Cost:
        held = sum(each.numel() for each in self.start)
        size = 3 * held * state_dtype(dtype).itemsize + (self.width - 1) * 3 * self.dim * dtype.itemsize + 8
        operations = 18 * held + 6 * self.dim * self.width  # three passes, momentum, decay and step: 2 each per weight
        return Cost(operations=operations, state_bytes=size, read_bytes=size)

    @classmethod
    def examples(cls) -> Sequence["NeuralMemory"]:
        return [
            cls(8, chunk=4),
            cls(12, heads=3, layers=1, chunk=5, width=1, bound=math.inf),
            cls(6, heads=1, layers=3, expand=2, chunk=1, width=2, bound=1.0),
        ]
