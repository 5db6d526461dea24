r"""How much a head needs the far past: a gate between all of it and the start with the last tokens, learnt with the model frozen.

    o = a * attention over everything + (1 - a) * attention over the first s and the last w tokens

Source:  DuoAttention, arXiv 2410.10819, sec. 2.2, eq. 4; the loss is theirs to choose: the squared difference that the
         gates make in the last hidden state, plus 0.05 times the mean gate.
Cost:    two maps of T^2.
Differs: no fused kernel.
"""

from jaxtyping import Float
from torch import Tensor

from attime.lens.attention import attention_map

__all__ = ["gated_attention"]

Heads = Float[Tensor, "batch heads time head_dim"]


def gated_attention(
    q: Heads,
    k: Heads,
    v: Heads,
    gates: Float[Tensor, " kv_heads"],
    *,
    scale: float,
    sinks: int = 128,
    window: int = 256,
) -> Heads:
    """Outputs of every query head, differentiable in the gates, one for each key-value head: 1 is full attention."""
    groups = q.shape[1] // k.shape[1]
    gate = gates.repeat_interleave(groups)[:, None, None]
    full = attention_map(q, k, scale=scale)
    near = attention_map(q, k, scale=scale, sinks=sinks, window=window)
    return (gate * full + (1 - gate) * near) @ v.repeat_interleave(groups, dim=1)
