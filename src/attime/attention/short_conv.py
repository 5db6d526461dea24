r"""Causal depthwise convolution over a few tokens, with its past as an explicit value.

    y_t = sum_j weight[:, j] * x_{t - (width - 1) + j}

Source:  the short convolution of H3, arXiv 2212.14052, and Mamba, arXiv 2312.00752; used by most linear mixers.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

__all__ = ["short_conv"]


def short_conv(
    x: Float[Tensor, "batch time dim"],
    weight: Float[Tensor, "dim width"],
    past: Float[Tensor, "batch before dim"],
    valid: Bool[Tensor, "batch time"] | None = None,
) -> tuple[Float[Tensor, "batch time dim"], Float[Tensor, "batch before dim"]]:
    """Outputs in `x`'s dtype, and the last `width - 1` valid inputs in `past`'s dtype: the `past` of the next chunk.

    `past` (zeros before the first token) has `width - 1` tokens; `valid` is a prefix in each row. `weight[:, -1]`
    is the tap of the token itself.
    """
    before, time = past.shape[1], x.shape[1]
    window = torch.cat([past.to(x.dtype), x], dim=1)
    weight = weight.to(x.dtype)
    if x.dtype.itemsize < 4:  # sums in float32 inside
        y = F.conv1d(window.mT, weight[:, None], groups=x.shape[2]).mT
    else:  # 2x faster than conv1d on a CPU, backward included
        first, *taps = weight.unbind(1)
        y = window[:, :time] * first
        for place, tap in enumerate(taps, 1):
            y = torch.addcmul(y, window[:, place : place + time], tap)
    if valid is None:
        return y, window[:, time:].to(past.dtype)
    kept = valid.sum(1)[:, None] + torch.arange(before, device=x.device)
    return y, window.gather(1, kept[..., None].expand(-1, -1, x.shape[2])).to(past.dtype)
