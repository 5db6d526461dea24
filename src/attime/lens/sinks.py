r"""Attention sinks: tokens to which nearly everything that comes later attends.

    a_k = mean over queries i >= k of A_ik        sink rate = share of heads with a_k > 0.3

Source:  When attention sink emerges, arXiv 2410.10781, sec. 3 (importance score, sink metric with threshold 0.3 on 64 tokens).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from attime.errors import AttimeError

__all__ = ["attention_received", "sink_rate"]

Maps = Float[Tensor, "batch heads query key"]


def attention_received(maps: Maps) -> Float[Tensor, "batch heads key"]:
    """Mean attention that each key has from the queries that may see it, 0 to 1; the queries are the last of the keys."""
    queries, keys = maps.shape[2:]
    if queries > keys:
        raise AttimeError(
            f"attention_received needs causal maps with as many keys as queries or more; got {tuple(maps.shape)}."
        )
    seen = torch.ones(queries, keys, device=maps.device).tril(keys - queries)
    return (maps * seen).sum(2) / seen.sum(0)


def sink_rate(maps: Maps, *, place: int = 0, above: float = 0.3) -> Float[Tensor, " batch"]:
    """Share of heads, 0 to 1, for which the token at `place` is a sink."""
    if not -maps.shape[3] <= place < maps.shape[3]:
        raise AttimeError(f"sink_rate needs a place among {maps.shape[3]} keys; got place={place}.")
    return (attention_received(maps)[:, :, place] > above).to(maps.dtype).mean(1)
