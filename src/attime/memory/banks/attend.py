"""A transformer layer for banks that learn: tokens attend to others or to themselves, then each is worked on alone."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from attime.errors import AttimeError

__all__ = ["Attend", "unit"]

Rows = Float[Tensor, "*batch _ dim"]


@final
class Attend(nn.Module):
    """Attention with residual and norm behind it, then the same for a multilayer perceptron."""

    def __init__(self, dim: int, *, heads: int, causal: bool = False) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise AttimeError(f"attention needs a dim that heads divide; got dim={dim}, heads={heads}.")
        self.heads, self.causal = heads, causal
        self.query, self.pair, self.output = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.work = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.first, self.second = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, x: Rows, others: Rows | None = None) -> Rows:
        """`x` after it has attended to `others`, or to itself."""
        key, value = self.pair(x if others is None else others).chunk(2, dim=-1)
        q, k, v = (each.unflatten(-1, (self.heads, -1)).transpose(-3, -2) for each in (self.query(x), key, value))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = self.first(x + self.output(mixed.transpose(-3, -2).flatten(-2)))
        return self.second(x + self.work(x))


def unit(tokens: Float[Tensor, "*axes dim"]) -> Float[Tensor, " dim"]:
    """Their mean, of length one: what frames and questions are compared by."""
    return F.normalize(tokens.flatten(0, -2).to(torch.float32).mean(0), dim=0)
