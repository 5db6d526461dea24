r"""What a moving thing did to temporal logits is filled in from around it: what stays is the motion of the camera.

    sum_{n in N(p)} (S_p - S_n) = 0   for places p inside the mask,        S_p = given   outside

for every head and pair of frames by itself: the smoothest continuation of the border into the mask (Laplace's equation, four
neighbours, nothing beyond the picture's edge).

Source:  MotionMaster, arXiv 2404.15789, sec. 4.2 (one-shot camera motion disentanglement: Poisson equation without gradient
         inside the mask).
Cost:    conjugate gradients: a few sums of neighbours per round, rounds at most as many as places inside.
Differs: conjugate gradients instead of a sparse factorisation; the mask is given for the places of the map.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from attime.errors import AttimeError

__all__ = ["harmonic_fill"]

Field = Float[Tensor, "height width numbers"]


def harmonic_fill(
    scores: Float[Tensor, "places heads query key"], inside: Bool[Tensor, "height width"], *, tolerance: float = 1e-9
) -> Float[Tensor, "places heads query key"]:
    """Scores of temporal attention of one clip, harmonic at the places `inside` and as they are at all others."""
    if len(scores) != inside.numel() or inside.all():
        raise AttimeError(
            f"harmonic_fill needs scores of one clip, a row per place of the mask, and a place outside it; got {len(scores)} rows, a mask "
            f"{inside.shape[0]}x{inside.shape[1]} with {int(inside.sum())} places inside."
        )
    given = scores.reshape(*inside.shape, -1).double()
    free = inside.to(scores.device)[..., None]
    around = _neighbours(torch.ones_like(given[..., :1]))
    guess = torch.where(free, given[~free[..., 0]].mean(0), given)

    def laplace(x: Field) -> Field:
        return torch.where(free, around * x - _neighbours(x), 0)

    rest = -laplace(guess)
    way, size = rest, rest.square().sum((0, 1))
    enough = tolerance**2 * size.clamp(min=1e-30)
    for _ in range(int(inside.sum())):
        if (size <= enough).all():
            break
        turned = laplace(way)
        pace = size / (way * turned).sum((0, 1)).clamp(min=1e-300)
        guess, rest = guess + pace * way, rest - pace * turned
        new = rest.square().sum((0, 1))
        way, size = rest + new / size.clamp(min=1e-300) * way, new
    return torch.where(free, guess, given).reshape(scores.shape).to(scores)


def _neighbours(x: Field) -> Field:
    """Sum over the four neighbours that there are."""
    wide = F.pad(x, (0, 0, 1, 1, 1, 1))
    return wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]
