"""The entries of every lane with the highest rates."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["highest"]


def highest(rates: Float[Tensor, "lanes entries"], count: Int[Tensor, " lanes"] | int) -> Bool[Tensor, "lanes entries"]:
    """The `count` highest of every lane; of equals the earlier."""
    order = rates.argsort(dim=1, descending=True, stable=True)
    most = count if isinstance(count, int) else count[:, None]
    first = (torch.arange(rates.shape[1], device=rates.device) < most).expand_as(order)
    return torch.zeros_like(rates, dtype=torch.bool).scatter(1, order, first)
