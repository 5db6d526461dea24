r"""Gated linear attention with one fixed decay per head, and no softmax denominator.

    S_t = g S_{t-1} + k_t v_t^T        o_t = RMSNorm(S_t^T q_t) * u_t        q, k = SiLU

Source:  Lightning Attention, arXiv 2405.17381; TransNormerLLM, arXiv 2307.14995 (gate, norm, LRPE); decays as in the
         released code of both: exp(-2^(-8h/H) (1 - l/(L-1))) for head h of H in layer l of L, not 0 but 1e-5 at the top.
Names:   our `decay` is their lambda; `rotate` is LRPE, which they use in the first layer.
Cost:    time O(T C d + T d^2) for chunks of C; state d^2 per head, twice that with `rotate`.
Differs: the papers print exp(-(8h/H) (1 - l/L)), which with few heads remembers only a token or two; heads that are
         not a power of two follow the same formula instead of an interleaving; norm per head, not over all heads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from attime.attention.contract import Cost, Mixer, Traits
from attime.attention.heads import join_heads, per_head, split_heads
from attime.attention.kernels.recurrence import recur, recur_naive
from attime.attention.state import State, state_dtype
from attime.errors import AttimeError

__all__ = ["Decay"]


@dataclass(frozen=True)
class DecayState(State):
    """The decayed sum of key-value products, and how many tokens went in where that matters."""

    memory: Float[Tensor, "batch heads key_dim head_dim"]
    count: Int[Tensor, " batch"] | None


@final
class Decay(Mixer):
    """Linear attention with a fixed decay per head (see the module docstring).

    `layer` and `layers` say where in a stack it stands: upper layers forget more slowly. With `rotate`, each channel
    of query and key turns with time at a speed that is learnt, so that scores know distances.
    """

    traits: ClassVar[Traits] = Traits(bounded=True)
    log_decay: Tensor

    def __init__(self, dim: int, *, heads: int = 2, layer: int = 0, layers: int = 2, rotate: bool = False) -> None:
        super().__init__()
        if not 0 <= layer < layers:
            raise AttimeError(f"Decay needs 0 <= layer < layers; got layer={layer}, layers={layers}.")
        self.dim, self.heads, self.head_dim = dim, heads, per_head(dim, heads, who="Decay")
        self.inputs = nn.Linear(dim, 4 * dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)
        height = 1 - layer / max(layers - 1, 1) + 1e-5
        slopes = 2 ** (-8 / heads * torch.arange(1, heads + 1).double()) * height
        self.register_buffer("log_decay", -slopes, persistent=False)
        turns = 10000 ** (-2 / dim * torch.arange(dim).float()).view(heads, self.head_dim)
        self.turn = nn.Parameter(turns) if rotate else None

    def begin(self, x: Tensor) -> DecayState:
        keys = self.head_dim if self.turn is None else 2 * self.head_dim
        shape = (x.shape[0], self.heads, keys, self.head_dim)
        count = None if self.turn is None else torch.zeros(x.shape[0], device=x.device, dtype=torch.int64)
        return DecayState(torch.zeros(shape, device=x.device, dtype=state_dtype(x.dtype)), count)

    def mix(self, x: Tensor, state: DecayState, valid: Tensor | None) -> tuple[Tensor, DecayState]:
        return self._mix(x, state, valid, recur)

    def reference(self, x: Tensor) -> Tensor:
        return self._mix(x, self.begin(x), None, recur_naive)[0]

    def _mix(
        self, x: Tensor, state: DecayState, valid: Tensor | None, form: Callable[..., tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, DecayState]:
        q, k, v, gate = self.inputs(x).chunk(4, dim=-1)
        q, k, v = (split_heads(each, self.heads) for each in (F.silu(q), F.silu(k), v))
        decay, count = self.log_decay, state.count
        if count is not None:
            steps = torch.arange(x.shape[1], device=x.device)
            q, k = self._rotated(count[:, None] + steps, q, k)
            count = count + (x.shape[1] if valid is None else valid.sum(1))
        if valid is not None:
            decay, k = decay[:, None] * valid[:, None], k * valid[:, None, :, None]
        out, memory = form(q, k, v, decay.to(state.memory.dtype), state.memory)
        out = F.rms_norm(out, (self.head_dim,))
        return self.output(join_heads(out).to(gate.dtype) * gate), DecayState(memory, count)

    def _rotated(self, place: Tensor, *parts: Tensor) -> list[Tensor]:
        """Products of two of these hold cos(turn * distance) per channel; angles in float64 last for long streams."""
        assert self.turn is not None
        angle = place[:, None, :, None].double() * self.turn[:, None, :].double()
        cos, sin = angle.cos().to(parts[0].dtype), angle.sin().to(parts[0].dtype)
        return [torch.cat([part * cos, part * sin], dim=-1) for part in parts]

    def cost(self, length: int, dtype: torch.dtype = torch.float32) -> Cost:
        held = self.heads * self.head_dim**2 * (1 if self.turn is None else 2)
        size = held * state_dtype(dtype).itemsize + (0 if self.turn is None else 8)
        return Cost(operations=5 * held, state_bytes=size, read_bytes=size)

    @classmethod
    def examples(cls) -> Sequence["Decay"]:
        return [cls(8), cls(12, heads=3, layer=1, layers=3), cls(8, rotate=True)]
