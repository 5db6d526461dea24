r"""How well attention explains: its agreement with what happens when parts of the input are hidden.

    saliency_tj = drop of token t's log-probability when stretch j of the input is hidden        r = corr_j(A_tj, saliency_tj)

Source:  Cross-attention is half explanation, arXiv 2509.18010, sec. 3 (saliency by perturbation; Pearson correlation over frames,
         mean over tokens; maps averaged over heads and layers).
Differs: stretches of equal length at several sizes instead of clusters of the spectrogram.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from attime.errors import AttimeError

__all__ = ["agreement", "hidden_saliency"]

Rows = Float[Tensor, "tokens time"]


@torch.no_grad()
def hidden_saliency(
    score: Callable[[Tensor], Float[Tensor, " tokens"]],
    inputs: Float[Tensor, " time *features"],
    *,
    sizes: Sequence[int],
    blank: float = 0.0,
) -> Rows:
    """How much each token's score falls when a stretch of the input is set to `blank`, mean over stretches that cover a time.

    `score` takes inputs like these and gives one number for each token. Stretches of each size lie side by side.
    """
    if not sizes or min(sizes) < 1 or max(sizes) > len(inputs):
        raise AttimeError(f"hidden_saliency needs sizes of 1 to {len(inputs)} (the input's times); got {tuple(sizes)}.")
    whole = score(inputs)
    total = torch.zeros(len(whole), len(inputs), dtype=whole.dtype, device=whole.device)
    for size in sizes:
        for start in range(0, len(inputs), size):
            hidden = inputs.clone()
            hidden[start : start + size] = blank
            total[:, start : start + size] += (whole - score(hidden))[:, None]
    return total / len(sizes)


def agreement(attention: Rows, saliency: Rows) -> Float[Tensor, " tokens"]:
    """Pearson correlation over time of each token's attention with its saliency, -1 to 1; 0 where one of them is constant."""
    if attention.shape != saliency.shape:
        raise AttimeError(
            f"agreement needs attention and saliency of equal sizes (tokens time); got {tuple(attention.shape)} and "
            f"{tuple(saliency.shape)}: pool one of them over time."
        )
    one, two = (each - each.mean(-1, keepdim=True) for each in (attention, saliency))
    return (one * two).sum(-1) / (one.norm(dim=-1) * two.norm(dim=-1)).clamp(min=1e-12)
