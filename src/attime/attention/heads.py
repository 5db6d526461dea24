"""Between `batch time dim` of mixers and `batch heads time head_dim` of kernels."""

from jaxtyping import Float
from torch import Tensor

from attime.errors import AttimeError

__all__ = ["join_heads", "per_head", "split_heads"]


def split_heads(x: Float[Tensor, "batch time dim"], heads: int) -> Float[Tensor, "batch heads time head_dim"]:
    """Cut the last axis into heads and put the heads before time."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(x: Float[Tensor, "batch heads time head_dim"]) -> Float[Tensor, "batch time dim"]:
    """The inverse of `split_heads`."""
    return x.transpose(1, 2).flatten(-2)


def per_head(dim: int, heads: int, *, who: str) -> int:
    """Channels per head; an error when they do not divide."""
    if heads < 1 or dim < 1 or dim % heads:
        raise AttimeError(f"{who} needs heads >= 1 that divide dim; got dim={dim}, heads={heads}.")
    return dim // heads
