r"""Low-rank adaptation: a trained model learns through a few numbers added to its linear layers.

    W = W_0 + (alpha / rank) B A,   B starts at zero

Source:  LoRA, arXiv 2106.09685, sec. 4.1; with embeddings and norms trained as well, LongLoRA, arXiv 2309.12307, sec. 3.3.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from attime.errors import AttimeError

__all__ = ["adapting"]


@final
class _LowRank(nn.Module):
    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        rows, columns = weight.shape
        self.scale = scale
        self.down = nn.Parameter(torch.empty(rank, columns, device=weight.device, dtype=weight.dtype))
        self.up = nn.Parameter(torch.zeros(rows, rank, device=weight.device, dtype=weight.dtype))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * (self.up @ self.down)


@contextmanager
def adapting(
    model: nn.Module,
    *,
    rank: int = 8,
    alpha: float = 16.0,
    targets: Sequence[str] = ("q_proj", "k_proj", "v_proj", "o_proj"),
    also: Sequence[str] = ("embed", "norm"),
    keep: bool = False,
) -> Iterator[list[nn.Parameter]]:
    """The parameters to train: low-rank ones of linear layers whose names end in `targets`, and those with `also` in their names.

    At the end the model is as it was, to the bit; with `keep` it has what was learnt, merged into its weights.
    """
    layers = [m for name, m in model.named_modules() if isinstance(m, nn.Linear) and name.endswith(tuple(targets))]
    if not layers or rank < 1:
        raise AttimeError(
            f"adapting needs rank >= 1 and linear layers named {', '.join(targets)}; got {len(layers)} layers."
        )
    frozen = {parameter: parameter.requires_grad for parameter in model.parameters()}
    whole = [parameter for name, parameter in model.named_parameters() if any(each in name for each in also)]
    before = [(parameter.detach().clone(), parameter.grad) for parameter in whole]
    for parameter in frozen:
        parameter.requires_grad_(False)
    learnt: list[nn.Parameter] = []
    for layer in layers:
        added = _LowRank(layer.weight, rank, alpha / rank)
        parametrize.register_parametrization(layer, "weight", added)
        learnt += [added.down, added.up]
    for parameter in whole:
        parameter.requires_grad_(True)
    try:
        yield [*learnt, *whole]
    finally:
        for layer in layers:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=keep)
        with torch.no_grad():
            for parameter, (old, gradient) in zip(whole, before, strict=True):
                parameter.grad = gradient
                if not keep:
                    parameter.copy_(old)
        for parameter, needed in frozen.items():
            parameter.requires_grad_(needed)
