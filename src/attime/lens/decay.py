r"""How attention in a clip falls with distance in time and in space.

    p(d) = mean attention of a query to all tokens at distance d        p(d) ~ exp(-rate d)

Source:  Radial attention, arXiv 2506.19852, sec. 4.1 (spatio-temporal energy decay, exponential fits).
Differs: distance in space is between places of a frame as the model numbers them, as in the paper.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from attime.errors import AttimeError

__all__ = ["decay_rate", "spacetime_profile"]

Maps = Float[Tensor, "batch heads query key"]


def spacetime_profile(
    maps: Maps, *, frames: int, places: int, start: int = 0
) -> tuple[Float[Tensor, "batch heads frames"], Float[Tensor, "batch heads places"]]:
    """Mean attention between tokens of the same place by distance in frames, and of the same frame by distance in places.

    The clip's tokens are those from `start` on, frame by frame.
    """
    stop = start + frames * places
    if frames < 1 or places < 1 or start < 0 or stop > min(maps.shape[2:]):
        raise AttimeError(
            f"spacetime_profile needs frames x places tokens from start on; got frames={frames}, places={places}, "
            f"start={start} and maps of {maps.shape[2]} x {maps.shape[3]}."
        )
    grid = maps[:, :, start:stop, start:stop].unflatten(3, (frames, places)).unflatten(2, (frames, places))
    same_place = grid.diagonal(dim1=3, dim2=5).mean(-1)
    same_frame = grid.diagonal(dim1=2, dim2=4).mean(-1)
    return _by_distance(same_place), _by_distance(same_frame)


def decay_rate(
    profile: Float[Tensor, "batch heads distance"],
) -> tuple[Float[Tensor, "batch heads"], Float[Tensor, "batch heads"]]:
    """Rate of the exponential that fits best (least squares of logarithms), and the share of variance that it explains."""
    if profile.shape[-1] < 3:
        raise AttimeError(f"decay_rate needs a profile over 3 distances or more; got {profile.shape[-1]}.")
    height = profile.clamp(min=torch.finfo(profile.dtype).tiny).log()
    away = torch.arange(profile.shape[-1], device=profile.device, dtype=profile.dtype)
    away, height = away - away.mean(), height - height.mean(-1, keepdim=True)
    slope = (away * height).sum(-1) / away.square().sum()
    left = (height - slope[..., None] * away).square().sum(-1)
    return -slope, 1 - left / height.square().sum(-1).clamp(min=torch.finfo(profile.dtype).tiny)


def _by_distance(square: Float[Tensor, "batch heads one two"]) -> Float[Tensor, "batch heads distance"]:
    size = square.shape[-1]
    ahead = [square.diagonal(offset=far, dim1=2, dim2=3) for far in range(size)]
    behind = [square.diagonal(offset=-far, dim1=2, dim2=3) for far in range(size)]
    return torch.stack([torch.cat(pair, dim=-1).mean(-1) for pair in zip(ahead, behind, strict=True)], dim=-1)
