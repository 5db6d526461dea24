r"""Massive dimensions of hidden states, and the tokens that have them: where attention sinks come from.

    phi_j(D) = max over d in D of | x_jd / sqrt(mean_d x_jd^2) |        a token is a sink if phi_j > threshold

Source:  VAR, arXiv 2503.03321, sec. 3 (sink dimensions D, threshold 20); massive activations: arXiv 2402.17762.
Names:   `stream` is what a layer is given, before its norm: `watch(model, keep=lambda call: call.stream)`.
Differs: dimensions are found at the first token of each row, which is a sink in models that have any.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attime.errors import AttimeError

__all__ = ["massive_dims", "massive_tokens"]

Stream = Float[Tensor, "batch time dim"]


def massive_dims(stream: Stream, *, count: int = 2) -> tuple[int, ...]:
    """The `count` dimensions that are greatest at the first token, over the rows; the greatest first."""
    if not 1 <= count <= stream.shape[-1]:
        raise AttimeError(f"massive_dims needs a count from 1 to {stream.shape[-1]} dimensions; got count={count}.")
    return tuple(_normal(stream[:, :1]).mean((0, 1)).topk(count).indices.tolist())


def massive_tokens(stream: Stream, dims: tuple[int, ...], *, threshold: float = 20.0) -> Bool[Tensor, "batch time"]:
    """Which tokens are sinks. No normalised value exceeds the square root of the number of dimensions."""
    if not dims or not 0 <= min(dims) <= max(dims) < stream.shape[-1]:
        raise AttimeError(f"massive_tokens needs dims from 0 to {stream.shape[-1] - 1}; got {dims}.")
    return _normal(stream)[..., list(dims)].amax(-1) > threshold


def _normal(stream: Stream) -> Stream:
    """Absolute values after RMSNorm without a weight."""
    wide = stream.to(torch.promote_types(stream.dtype, torch.float32))
    return (wide * wide.square().mean(-1, keepdim=True).add(1e-6).rsqrt()).abs()
