r"""Linear attention that reads a prefix in both directions: every token of the prefix is known before the first is read.

    o_t = phi(q_t)^T (S_t + E) / phi(q_t)^T (z_t + e)        S_t = sum_{s<=t} phi(k_s) v_s^T,   z_t = sum_{s<=t} phi(k_s)
    E = sum_{s<=M} phi(k'_s) v'_s^T,  e = sum_{s<=M} phi(k'_s)        k', v': projections of their own, for the prefix

Source:  Just Read Twice, arXiv 2407.05483, sec. 4 (prefix linear attention) and its released code.
Names:   our `prefix` is their M, the length of the encoder region; phi is the Taylor feature map of Based.
Cost:    as Taylor; the prefix costs its features once more. State as Taylor's: E and S are one sum once E is known.
Differs: the length of the prefix is an input, per row, instead of a constant; without it the mixer is plain Taylor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from attime.attention.contract import Cost, Mixer, Traits
from attime.attention.heads import join_heads, per_head, split_heads
from attime.attention.linear.taylor import taylor_chunks, taylor_features
from attime.attention.state import State, state_dtype
from attime.errors import AttimeError

__all__ = ["PrefixLinear"]


@dataclass(frozen=True)
class PrefixLinearState(State):
    """Sums of phi(k) v^T over tokens read, in one direction or both; in the last column, of phi(k)."""

    memory: Float[Tensor, "batch heads features columns"]


@final
class PrefixLinear(Mixer):
    """Linear attention with a prefix read in both directions (see the module docstring).

    `prefix=` says how many tokens of the chunk, the first ones of each row, every token of it sees.
    """

    traits: ClassVar[Traits] = Traits(bounded=True, prefix=True)
    waived: ClassVar[Mapping[str, str]] = {
        "every_weight_learns": "the second projection of keys and values learns from clips that have a prefix"
    }

    def __init__(self, dim: int, *, heads: int = 4, feature_dim: int = 16) -> None:
        super().__init__()
        if feature_dim < 1:
            raise AttimeError(f"PrefixLinear needs feature_dim >= 1; got {feature_dim}.")
        self.dim, self.heads, self.head_dim = dim, heads, per_head(dim, heads, who="PrefixLinear")
        self.feature_dim = feature_dim
        self.features = (feature_dim + 1) * (feature_dim + 2) // 2
        self.query = nn.Linear(dim, heads * feature_dim, bias=False)
        self.inputs = nn.Linear(dim, heads * feature_dim + dim, bias=False)
        self.ahead = nn.Linear(dim, heads * feature_dim + dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)

    def begin(self, x: Tensor) -> PrefixLinearState:
        shape = (x.shape[0], self.heads, self.features, self.head_dim + 1)
        return PrefixLinearState(torch.zeros(shape, device=x.device, dtype=state_dtype(x.dtype)))

    def mix(
        self,
        x: Tensor,
        state: PrefixLinearState,
        valid: Tensor | None,
        *,
        prefix: Int[Tensor, " batch"] | None = None,
    ) -> tuple[Tensor, PrefixLinearState]:
        q = split_heads(self.query(x), self.heads).to(state.memory.dtype)
        k, v = self._pairs(self.inputs(x), valid)
        with torch.autocast(x.device.type, enabled=False):
            memory = state.memory
            if prefix is not None:
                inside = torch.arange(x.shape[1], device=x.device) < prefix[:, None]
                ahead_k, ahead_v = self._pairs(self.ahead(x), inside if valid is None else inside & valid)
                memory = memory + taylor_features(ahead_k).mT @ ahead_v
            out, memory = taylor_chunks(q, k, v, memory)
            out = out[..., :-1] / out[..., -1:].clamp(min=0.5)  # a weight is 1/2 at least: only rounding is below
        return self.output(join_heads(out).to(x.dtype)), PrefixLinearState(memory)

    def reference(self, x: Tensor, prefix: int = 0) -> Tensor:
        q = split_heads(self.query(x), self.heads)
        k, v = self._pairs(self.inputs(x), None)
        ahead = [self._pairs(self.ahead(x[:, :prefix]), None)] if prefix else []
        outputs = []
        for t in range(x.shape[1]):
            keys = torch.cat([k[:, :, : t + 1], *(keys for keys, _ in ahead)], dim=2)
            values = torch.cat([v[:, :, : t + 1], *(values for _, values in ahead)], dim=2)
            scores = torch.einsum("b h d, b h s d -> b h s", q[:, :, t], keys) / sqrt(self.feature_dim)
            summed = torch.einsum("b h s, b h s v -> b h v", 1 + scores + scores**2 / 2, values)
            outputs.append(summed[..., :-1] / summed[..., -1:])
        return self.output(join_heads(torch.stack(outputs, dim=2)))

    def _pairs(self, projected: Tensor, counted: Tensor | None) -> tuple[Tensor, Tensor]:
        """Keys, and values with a last column of ones that sums the weights; zeros where a token does not count."""
        k, v = projected.split([self.heads * self.feature_dim, self.dim], dim=-1)
        k, v = (split_heads(each, self.heads).to(state_dtype(projected.dtype)) for each in (k, v))
        v = F.pad(v, (0, 1), value=1.0)
        return k, v if counted is None else v * counted[:, None, :, None]

    def cost(self, length: int, dtype: torch.dtype = torch.float32) -> Cost:
        held = self.heads * self.features * (self.head_dim + 1)
        size = held * state_dtype(dtype).itemsize
        return Cost(operations=4 * held + 6 * self.heads * self.features, state_bytes=size, read_bytes=size)

    @classmethod
    def examples(cls) -> Sequence["PrefixLinear"]:
        return [cls(8, heads=2, feature_dim=4), cls(12, heads=3, feature_dim=5)]
