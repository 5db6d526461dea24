r"""Matrix-valued linear recurrence, read by a query.

    S_t = g_t S_{t-1} + k_t v_t^T        o_t = S_t^T q_t

Source:  Lightning Attention, arXiv 2405.17381 (chunks); Transformers are RNNs, arXiv 2006.16236 (recurrence).
"""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["recur", "recur_naive"]

Heads = Float[Tensor, "batch heads time head_dim"]
Values = Float[Tensor, "batch heads time value_dim"]
LogDecay = Float[Tensor, "batch heads time"]
Memory = Float[Tensor, "batch heads head_dim value_dim"]

CHUNK = 64  # a machine constant: the working set of a chunk stays in cache


def recur_naive(q: Heads, k: Heads, v: Values, log_decay: LogDecay, memory: Memory) -> tuple[Values, Memory]:
    """The equation, one token at a time."""
    outputs = []
    for q_t, k_t, v_t, g_t in zip(q.unbind(2), k.unbind(2), v.unbind(2), log_decay.unbind(2), strict=True):
        memory = g_t.exp()[..., None, None] * memory + k_t[..., :, None] * v_t[..., None, :]
        outputs.append((q_t[..., None, :] @ memory).squeeze(-2))
    return torch.stack(outputs, dim=2), memory


def recur(q: Heads, k: Heads, v: Values, log_decay: LogDecay, memory: Memory) -> tuple[Values, Memory]:
    """The same numbers, a chunk of tokens at a time."""
    outputs = []
    for q_c, k_c, v_c, g_c in zip(*(x.split(CHUNK, 2) for x in (q, k, v, log_decay)), strict=True):
        total = g_c.cumsum(2)
        gaps = (total[..., :, None] - total[..., None, :]).masked_fill(
            torch.ones(g_c.shape[-1], g_c.shape[-1], dtype=torch.bool, device=q.device).triu(1), -torch.inf
        )
        inside = (q_c @ k_c.mT * gaps.exp()) @ v_c
        outputs.append(inside + total.exp()[..., None] * (q_c @ memory))
        left = (total[..., -1:] - total).exp()[..., None]
        memory = total[..., -1:, None].exp() * memory + (left * k_c).mT @ v_c
    return torch.cat(outputs, dim=2), memory
