r"""Linear attention whose weight is the second-order Taylor polynomial of softmax attention's.

    o_t = sum_{s<=t} w(q_t, k_s) v_s / sum_{s<=t} w(q_t, k_s)        w(q, k) = 1 + x + x^2 / 2,  x = q^T k / sqrt(d)
        = phi(q_t)^T S_t / phi(q_t)^T z_t        S_t = sum phi(k_s) v_s^T,  z_t = sum phi(k_s)

Source:  Based, arXiv 2402.18668, sec. 4 (feature map, d = 16 per head); exponential kernel of arXiv 2006.16236.
Names:   our `feature_dim` d is their d'.
Cost:    time O(T C (d + v) + T F v) for blocks of C; state F (v + 1) per head with F = (d + 1)(d + 2) / 2.
Differs: x_i x_j and x_j x_i are one feature (weighted by sqrt 2), so the state is 153 rows at d = 16, not 273, with
         the same weights; the released code adds 1e-12 to the denominator, which is at least t / 2 (w >= 1/2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from attime.attention.contract import Cost, Mixer, Traits
from attime.attention.heads import join_heads, per_head, split_heads
from attime.attention.state import State, state_dtype
from attime.errors import AttimeError

__all__ = ["Taylor", "taylor_features"]

Features = Float[Tensor, "batch heads time feature_dim"]
Values = Float[Tensor, "batch heads time value_dim"]
Memory = Float[Tensor, "batch heads features value_dim"]

CHUNK = 64  # a machine constant: the working set of a block stays in cache


def taylor_features(x: Float[Tensor, "*axes feature_dim"]) -> Float[Tensor, "*axes features"]:
    """phi(x): one, the entries, and their products, so that phi(q)^T phi(k) = 1 + x + x^2 / 2."""
    size = x.shape[-1]
    x = x * size**-0.25
    ring = torch.cat([x, x], dim=-1)  # every pair of entries is once less than half a turn apart
    pairs = [x * ring[..., turn : turn + size] for turn in range(1, (size + 1) // 2)]
    if size % 2 == 0:
        pairs.append(x[..., : size // 2] * x[..., size // 2 :])
    return torch.cat([torch.ones_like(x[..., :1]), x, x * x * sqrt(0.5), *pairs], dim=-1)


def taylor_weights(q: Features, k: Features) -> Float[Tensor, "batch heads query key"]:
    """w(q_t, k_s) for s <= t, else 0."""
    x = q @ k.mT * q.shape[-1] ** -0.5
    return (1 + x + x.square() / 2).tril()


def taylor_chunks(q: Features, k: Features, v: Values, memory: Memory) -> tuple[Values, Memory]:
    """sum_s w(q_t, k_s) v_s: the polynomial inside a block, its features for the blocks before."""
    outputs = []
    for q_c, k_c, v_c in zip(*(x.split(CHUNK, 2) for x in (q, k, v)), strict=True):
        outputs.append(taylor_features(q_c) @ memory + taylor_weights(q_c, k_c) @ v_c)
        memory = memory + taylor_features(k_c).mT @ v_c
    return torch.cat(outputs, dim=2), memory


@dataclass(frozen=True)
class TaylorState(State):
    """Sums of phi(k) v^T and, in the last column, of phi(k)."""

    memory: Float[Tensor, "batch heads features columns"]


@final
class Taylor(Mixer):
    """Linear attention with second-order Taylor features (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(bounded=True)

    def __init__(self, dim: int, *, heads: int = 4, feature_dim: int = 16) -> None:
        super().__init__()
        if feature_dim < 1:
            raise AttimeError(f"Taylor needs feature_dim >= 1; got {feature_dim}.")
        self.dim, self.heads, self.head_dim = dim, heads, per_head(dim, heads, who="Taylor")
        self.feature_dim = feature_dim
        self.features = (feature_dim + 1) * (feature_dim + 2) // 2
        self.inputs = nn.Linear(dim, 2 * heads * feature_dim + dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)

    def begin(self, x: Tensor) -> TaylorState:
        shape = (x.shape[0], self.heads, self.features, self.head_dim + 1)
        return TaylorState(torch.zeros(shape, device=x.device, dtype=state_dtype(x.dtype)))

    def mix(self, x: Tensor, state: TaylorState, valid: Tensor | None) -> tuple[Tensor, TaylorState]:
        q, k, v = self._project(x)
        v = F.pad(v, (0, 1), value=1.0)  # the last column sums the weights themselves
        if valid is not None:
            v = v * valid[:, None, :, None]
        with torch.autocast(x.device.type, enabled=False):
            out, memory = taylor_chunks(q, k, v, state.memory)
            out, total = out[..., :-1], out[..., -1:]
            out = out / total.clamp(min=0.5)  # only rounding could bring it below
        return self.output(join_heads(out).to(x.dtype)), TaylorState(memory)

    def reference(self, x: Tensor) -> Tensor:
        q, k, v = self._project(x)
        out = []
        for t in range(x.shape[1]):
            scores = torch.einsum("b h d, b h s d -> b h s", q[:, :, t], k[:, :, : t + 1]) / sqrt(self.feature_dim)
            weights = 1 + scores + scores**2 / 2
            out.append(torch.einsum("b h s, b h s v -> b h v", weights, v[:, :, : t + 1]) / weights.sum(2)[..., None])
        return self.output(join_heads(torch.stack(out, dim=2)))

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        size = self.heads * self.feature_dim
        q, k, v = self.inputs(x).split([size, size, self.dim], dim=-1)
        q, k, v = (split_heads(each, self.heads).to(state_dtype(x.dtype)) for each in (q, k, v))
        return q, k, v

    def cost(self, length: int, dtype: torch.dtype = torch.float32) -> Cost:
        held = self.heads * self.features * (self.head_dim + 1)
        size = held * state_dtype(dtype).itemsize
        return Cost(operations=4 * held + 6 * self.heads * self.features, state_bytes=size, read_bytes=size)

    @classmethod
    def examples(cls) -> Sequence["Taylor"]:
        return [cls(8, heads=2, feature_dim=4), cls(12, heads=3, feature_dim=5)]
