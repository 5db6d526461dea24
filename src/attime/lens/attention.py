"""The map of one layer's causal attention, whole: what measures look at."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attime.errors import AttimeError

__all__ = ["attention_map"]

Heads = Float[Tensor, "batch heads time head_dim"]
Maps = Float[Tensor, "batch heads query key"]


def attention_map(q: Heads, k: Heads, *, scale: float, sinks: int | None = None, window: int | None = None) -> Maps:
    """Causal attention of each query head; the queries are the last tokens of the keys.

    With `window`, a token sees the last so many, itself among them, and the first `sinks`. Key-value heads serve groups
    of query heads.
    """
    if q.shape[1] % k.shape[1] or q.shape[2] > k.shape[2]:
        raise AttimeError(
            f"attention_map needs query heads that are a multiple of key heads, and as many keys as queries or more; "
            f"got queries {tuple(q.shape)} and keys {tuple(k.shape)}."
        )
    groups = q.shape[1] // k.shape[1]
    logits = q.unflatten(1, (k.shape[1], groups)) @ k[:, :, None].transpose(3, 4) * scale
    seen = _seen(q.shape[2], k.shape[2], sinks or 0, window, q.device)
    return logits.flatten(1, 2).masked_fill(~seen, -torch.inf).softmax(-1)


def _seen(queries: int, keys: int, sinks: int, window: int | None, device: torch.device) -> Bool[Tensor, "query key"]:
    key = torch.arange(keys, device=device)
    age = key[-queries:, None] - key
    causal = age >= 0
    return causal if window is None else causal & ((age < window) | (key < sinks))
