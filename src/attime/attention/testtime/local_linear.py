r"""Local linear attention: for every query, a line fitted through the past around it, instead of an average of it.

    p_i = softmax_i(s q_t . k_i), i <= t      o_t = sum_i p_i (1 - (k_i - m) . u) v_i
    m = sum_i p_i k_i      (Cov_p(k) + ridge I) u = m - q_t

The intercept at q_t of the regression of v on k with weights p. ridge -> infinity is softmax attention; equal weights
are linear regression. Weights of single tokens may be negative; they sum to one.

Source:  Local Linear Attention, arXiv 2510.01450, sec. 3 (closed form, interpolation), sec. 4 (solvers).
Names:   our `ridge` is their lambda; exp(log_scale) = s is their 1 / h, a learnt bandwidth per head.
Cost:    time O(T^2 d^2) (see kernels.ridge); state 2 d per token and head.
Differs: q and k have root mean square one, so that p is a Gaussian of the distance between q and k, and both live where
         their difference means something. No position encoding.
"""

from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attime.attention.contract import Cost, Mixer, Traits
from attime.attention.heads import join_heads, per_head, split_heads
from attime.attention.kernels.ridge import local_ridge, local_ridge_naive
from attime.attention.past import Past
from attime.errors import AttimeError

__all__ = ["LocalLinear"]

SMALLEST = 1e-4  # a ridge below this is lost in the rounding of a float32 covariance


@final
class LocalLinear(Mixer):
    """Local linear attention (see the module docstring). `ridge` is where the learnt ridge of each head starts."""

    traits: ClassVar[Traits] = Traits()

    def __init__(self, dim: int, *, heads: int = 2, ridge: float = 1.0) -> None:
        super().__init__()
        if ridge <= 0:
            raise AttimeError(f"LocalLinear needs ridge > 0; got {ridge}.")
        self.dim, self.heads, self.head_dim = dim, heads, per_head(dim, heads, who="LocalLinear")
        self.inputs = nn.Linear(dim, 3 * dim, bias=False)
        self.log_scale = nn.Parameter(torch.full((heads,), float(self.head_dim)).log() / -2)
        self.log_ridge = nn.Parameter(torch.full((heads,), float(ridge)).log())
        self.output = nn.Linear(dim, dim, bias=False)

    def begin(self, x: Tensor) -> Past:
        return Past.empty(x, self.heads, self.head_dim)

    def mix(self, x: Tensor, state: Past, valid: Tensor | None) -> tuple[Tensor, Past]:
        q, k, v = self._heads(x)
        when = torch.arange(x.shape[1], device=x.device)[None] + state.seen[:, None]
        joined = state.append(k, v, when if valid is None else when.masked_fill(~valid, -1))
        kept = None if valid is None and joined.even else joined.when >= 0
        out = self._fit(local_ridge, q, joined.keys, joined.values, kept)
        return self.output(join_heads(out).to(x.dtype)), joined if valid is None else joined.aligned()

    def reference(self, x: Tensor) -> Tensor:
        return self.output(join_heads(self._fit(local_ridge_naive, *self._heads(x), None)))

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (split_heads(each, self.heads) for each in self.inputs(x).chunk(3, dim=-1))
        return F.rms_norm(q, (self.head_dim,)), F.rms_norm(k, (self.head_dim,)), v

    def _fit(self, form, q, k, v, kept):
        kind, wide = q.device.type, torch.promote_types(q.dtype, torch.float32)
        with torch.autocast(kind, enabled=False):
            q, k, v = q.to(wide), k.to(wide), v.to(wide)
            scale, ridge = self.log_scale.to(wide).exp(), self.log_ridge.to(wide).exp().clamp(min=SMALLEST)
            return form(q * scale[:, None, None], q, k, v, ridge, kept)

    def cost(self, length: int, dtype: torch.dtype = torch.float32) -> Cost:
        size = length * (2 * self.dim * dtype.itemsize + torch.int64.itemsize)
        solve = self.heads * self.head_dim**3 // 3
        return Cost(operations=length * self.dim * (2 * self.head_dim + 10) + solve, state_bytes=size, read_bytes=size)

    @classmethod
    def examples(cls) -> Sequence["LocalLinear"]:
        return [cls(8), cls(12, heads=3, ridge=0.1)]
