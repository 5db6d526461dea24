r"""Attention by any similarity, normalised or not, and with a key that takes what no token deserves.

    o_t = sum_{j <= t} s(q_t k_j / sqrt(d)) v_j / Z_t        Z_t = sum_{j <= t} s(q_t k_j / sqrt(d)) + s(q_t k* / sqrt(d)), or 1
    s(x) = exp(x), 1 / (1 + exp(-x)) or elu(x) + 1           k* a learnt key per head, whose value is 0

Source:  When attention sink emerges, arXiv 2410.10781, sec. 7 (attention biases; attention operations), and its public code:
         keys are turned by their position, k* is not.
Names:   `by` is their similarity, `normalised` their Z, `spare` their K bias.
Cost:    time O(T^2 d); state 2 `dim` numbers and a position per token of the past.
Differs: exp without normalisation, which does not train, is an error.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal, final, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from attime.attention.contract import Cost, Mixer, Traits
from attime.attention.heads import join_heads, per_head, split_heads
from attime.attention.past import Past
from attime.attention.rotary import check_rotary, rotate, turns
from attime.errors import AttimeError

__all__ = ["Similarity"]

By = Literal["exp", "sigmoid", "elu"]
QUERIES = 256  # whose weights are held at a time


@final
class Similarity(Mixer):
    """Attention by a similarity (see the module docstring): softmax is `exp`, normalised."""

    traits: ClassVar[Traits] = Traits()

    def __init__(
        self, dim: int, *, heads: int = 2, by: By = "sigmoid", normalised: bool = False, spare: bool = False
    ) -> None:
        super().__init__()
        self.dim, self.heads, self.head_dim = dim, heads, per_head(dim, heads, who="Similarity")
        check_rotary(self.head_dim, who="Similarity")
        if by not in get_args(By) or (by == "exp" and not normalised) or (spare and not normalised):
            raise AttimeError(
                f"Similarity goes by {', '.join(get_args(By))}, and exp and a spare key need normalised=True; got by={by!r}, "
                f"normalised={normalised}, spare={spare}."
            )
        self.by, self.normalised = by, normalised
        self.inputs = nn.Linear(dim, 3 * dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)
        self.spare = nn.Parameter(0.02 * torch.randn(heads, self.head_dim)) if spare else None

    def begin(self, x: Tensor) -> Past:
        return Past.empty(x, self.heads, self.head_dim)

    def mix(self, x: Tensor, state: Past, valid: Tensor | None) -> tuple[Tensor, Past]:
        when = torch.arange(x.shape[1], device=x.device)[None] + state.seen[:, None]
        q, k, v = self._project(x, when if state.slots else when[:1])
        when = when if valid is None else when.masked_fill(~valid, -1)
        joined = state.append(k, v, when.expand(x.shape[0], -1))
        slot = torch.arange(joined.slots, device=x.device)
        parts = []
        for first, some in zip(range(0, x.shape[1], QUERIES), q.split(QUERIES, dim=2), strict=True):
            own = state.slots + first + torch.arange(some.shape[2], device=x.device)
            reach = int(own[-1]) + 1
            seen = (slot[:reach] <= own[:, None]) & (joined.when[:, None, None, :reach] >= 0)
            weights, total = self._weigh(some.to(joined.keys.dtype), joined.keys[:, :, :reach], seen)
            parts.append((weights @ joined.values[:, :, :reach]) / total)
        out = self.output(join_heads(torch.cat(parts, dim=2)).to(x.dtype))
        return out, joined if valid is None else joined.aligned()

    def maps(self, x: Float[Tensor, "batch time dim"]) -> Float[Tensor, "batch heads time time"]:
        """Shares of attention, for measures: rows sum to one, less what the spare key takes."""
        q, k, _ = self._project(x, torch.arange(x.shape[1], device=x.device)[None])
        weights, total = self._weigh(q, k, torch.ones(q.shape[2], q.shape[2], device=x.device).tril().bool())
        return weights / (total if self.normalised else weights.sum(-1, keepdim=True))

    def reference(self, x: Tensor) -> Tensor:
        q, k, v = self._project(x, torch.arange(x.shape[1], device=x.device)[None])
        similar = {"exp": torch.exp, "sigmoid": torch.sigmoid, "elu": lambda score: F.elu(score) + 1}[self.by]
        rows = []
        for t, q_t in enumerate(q.unbind(2)):
            weight = similar((q_t[:, :, None] * k[:, :, : t + 1]).sum(-1) / self.head_dim**0.5)
            total = weight.sum(-1, keepdim=True) if self.normalised else 1.0
            if self.spare is not None:
                total = total + similar((q_t * self.spare).sum(-1, keepdim=True) / self.head_dim**0.5)
            rows.append((weight[..., None] * v[:, :, : t + 1]).sum(2) / total)
        return self.output(join_heads(torch.stack(rows, dim=2)))

    def _project(self, x: Tensor, when: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (split_heads(each, self.heads) for each in self.inputs(x).chunk(3, dim=-1))
        by = turns(when, self.head_dim)
        return rotate(q, by), rotate(k, by), v

    def _weigh(
        self, q: Tensor, k: Tensor, seen: Bool[Tensor, "*batch query key"]
    ) -> tuple[Float[Tensor, "batch heads query key"], Tensor | float]:
        """Weights of what is seen, and what they are divided by; exp is taken from the greatest score on."""
        scores = (q @ k.mT * self.head_dim**-0.5).masked_fill(~seen, -torch.inf)
        spare = None if self.spare is None else (q * self.spare[:, None]).sum(-1, keepdim=True) * self.head_dim**-0.5
        if self.by == "exp":
            top = scores.amax(-1, keepdim=True) if spare is None else scores.amax(-1, keepdim=True).maximum(spare)
            top = top.detach().clamp(min=torch.finfo(scores.dtype).min)  # padding sees nothing
            weights, extra = (scores - top).exp(), None if spare is None else (spare - top).exp()
        else:
            similar = torch.sigmoid if self.by == "sigmoid" else lambda score: F.elu(score) + 1
            weights, extra = similar(scores), None if spare is None else similar(spare)
        if not self.normalised:
            return weights, 1.0
        total = weights.sum(-1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
        return weights, total if extra is None else total + extra

    def cost(self, length: int, dtype: torch.dtype = torch.float32) -> Cost:
        size = 2 * length * self.dim * dtype.itemsize
        held = size + length * torch.int64.itemsize
        return Cost(operations=4 * self.dim * (length + 1), state_bytes=held, read_bytes=size)

    @classmethod
    def examples(cls) -> Sequence["Similarity"]:
        return [
            cls(8),
            cls(16, heads=4, by="exp", normalised=True, spare=True),
            cls(8, heads=1, by="sigmoid", normalised=True),
            cls(12, heads=3, by="elu", normalised=True, spare=True),
        ]
