r"""Which heads fetch from afar: measures of attention maps (batch heads query key).

    copied share   the part of the needle's tokens that a head attended to most just when the model wrote them
    echo           attention of a token to its own earlier copies
    induction      attention of a token to what followed its earlier copies

Source:  copied share: Retrieval head, arXiv 2404.15574, sec. 2 (retrieval score |g_h n k| / |k|);
         echo and induction: RazorAttention, arXiv 2407.15891, sec. 3.2 (random tokens repeated four times).
Differs: a token that is copied twice counts once (the public code adds 1 / |needle| for each hit).
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attime.errors import AttimeError

__all__ = ["copied_share", "echo", "induction"]

Maps = Float[Tensor, "batch heads query key"]
Scores = Float[Tensor, "batch heads"]


def copied_share(
    maps: Maps,
    tokens: Int[Tensor, "batch key"],
    written: Int[Tensor, "batch query"],
    needle: Bool[Tensor, "batch key"],
) -> Scores:
    """Retrieval score, from 0 to 1. A query is a step of generation: its row of the maps, and the token that it wrote."""
    if maps.shape[3] != tokens.shape[1] or maps.shape[2] != written.shape[1] or needle.shape != tokens.shape:
        raise AttimeError(
            f"copied_share needs a token and a mark of the needle for each key and a written token for each query; got maps "
            f"{tuple(maps.shape)}, tokens {tuple(tokens.shape)}, written {tuple(written.shape)}, needle {tuple(needle.shape)}."
        )
    top = maps.argmax(-1)
    rows = torch.arange(len(tokens), device=maps.device)[:, None, None]
    hit = needle[rows, top] & (tokens[rows, top] == written[:, None])
    found = torch.zeros(*maps.shape[:2], maps.shape[3], device=maps.device)
    found = found.scatter_reduce(2, top, hit.to(found.dtype), reduce="amax")
    return found.sum(-1) / needle.sum(1, keepdim=True).clamp(min=1)


def echo(maps: Maps, *, period: int) -> Scores:
    """Attention to earlier copies of oneself, from 0 to 1, over tokens that repeat with this period."""
    return _behind(maps, period, 0)


def induction(maps: Maps, *, period: int) -> Scores:
    """Attention to what followed the earlier copies, from 0 to 1, over tokens that repeat with this period."""
    return _behind(maps, period, 1)


def _behind(maps: Maps, period: int, later: int) -> Scores:
    """Mean attention, of the tokens that have been there before, to all places `later` behind an earlier copy."""
    time = maps.shape[3]
    if maps.shape[2] != time or not 2 <= period < time:
        raise AttimeError(
            f"echo and induction need square maps and a period from 2 to the length - 1; "
            f"got maps {tuple(maps.shape)} and period={period}: repeat the tokens at least once."
        )
    total = maps.new_zeros(maps.shape[:2])
    for back in range(period, time, period):
        diagonal = maps.diagonal(offset=later - back, dim1=2, dim2=3)
        total = total + (diagonal[..., 1:] if later else diagonal).sum(-1)
    return total / (time - period)
