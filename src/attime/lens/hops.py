r"""Where the heads of a vision transformer look: themselves, their neighbours, far away, or the class token.

    s(k) = mean over patches i of the attention to patches at Chebyshev distance k

Source:  How does attention work in vision transformers?, arXiv 2303.13731, sec. 4 (k-hop profile of a head's strength; importance
         of a head by what pruning it does to the prediction, there as Jensen-Shannon divergence).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from attime.errors import AttimeError

__all__ = ["divergence", "hop_profile"]


def hop_profile(
    maps: Float[Tensor, "batch heads query key"], *, height: int, width: int, first: int = 1
) -> Float[Tensor, "batch heads hops"]:
    """Attention mass of a patch on the patches k steps away; with the mass on the `first` (class) tokens it sums to one."""
    if min(height, width) < 1 or maps.shape[2] != maps.shape[3] or maps.shape[2] != first + height * width:
        raise AttimeError(
            f"hop_profile needs square maps over {first} + {height} x {width} tokens; got {maps.shape[2]} x {maps.shape[3]}."
        )
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    row, column = row.flatten(), column.flatten()
    away = torch.maximum((row[:, None] - row).abs(), (column[:, None] - column).abs()).to(maps.device)
    patches = maps[:, :, first:, first:]
    return torch.stack([(patches * (away == hop)).sum(-1).mean(-1) for hop in range(max(height, width))], dim=-1)


def divergence(one: Float[Tensor, "*batch classes"], two: Float[Tensor, "*batch classes"]) -> Float[Tensor, "*batch"]:
    """Jensen-Shannon divergence of the predictions behind two sets of logits, 0 to 1 (in bits)."""
    p, q = one.softmax(-1), two.softmax(-1)
    middle = (p + q) / 2

    def entropy(each: Tensor) -> Tensor:
        return -(each * each.clamp(min=torch.finfo(each.dtype).tiny).log2()).sum(-1)

    return (entropy(middle) - (entropy(p) + entropy(q)) / 2).clamp(0, 1)
