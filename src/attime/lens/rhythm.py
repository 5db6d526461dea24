r"""The rhythm of a text in its attention: where a stretch is planned (queries look far) and what is come back to (anchors).

    distance_t = sum_s A_ts (t - s)        windowed: min(t - s, W)        influence_s = mean of A_ts over s + near <= t <= s + far

Source:  Preplan-and-anchor rhythm, arXiv 2510.13554, sec. 3 (windowed average attention distance WAAD, W about 10; future
         attention influence FAI; local and global heads are the 30 % with the least and greatest mean distance).
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attime.errors import AttimeError

__all__ = ["attention_distance", "future_influence", "local_heads"]

Maps = Float[Tensor, "batch heads query key"]


def attention_distance(maps: Maps, *, window: int | None = None) -> Float[Tensor, "batch heads query"]:
    """How far back each query looks on average, in tokens; with `window` no token counts as further than that."""
    _causal(maps, "attention_distance")
    back = _back(maps).clamp(min=0)
    return (maps * (back if window is None else back.clamp(max=window))).sum(-1)


def future_influence(maps: Maps, *, near: int = 10, far: int = 50) -> Float[Tensor, "batch heads key"]:
    """Mean attention that each token has from those that come `near` to `far` tokens later; 0 where there are none."""
    _causal(maps, "future_influence")
    if not 0 <= near <= far:
        raise AttimeError(f"future_influence needs 0 <= near <= far, in tokens; got near={near}, far={far}.")
    back = _back(maps)
    later = ((back >= near) & (back <= far)).to(maps.dtype)
    return (maps * later).sum(2) / later.sum(0).clamp(min=1)


def local_heads(maps: Maps, *, share: float = 0.3) -> tuple[Bool[Tensor, " heads"], Bool[Tensor, " heads"]]:
    """Which heads look nearest and which look furthest on average: this share of the heads each, one at least."""
    if not 0 < share <= 0.5:
        raise AttimeError(f"local_heads needs a share of heads in (0, 0.5]; got share={share}.")
    order = attention_distance(maps).mean((0, 2)).argsort()
    count = max(1, round(share * len(order)))
    near, far = (torch.zeros(len(order), dtype=torch.bool, device=maps.device) for _ in range(2))
    near[order[:count]], far[order[-count:]] = True, True
    return near, far


def _back(maps: Maps) -> Float[Tensor, "query key"]:
    queries, keys = maps.shape[2:]
    place = torch.arange(keys, device=maps.device, dtype=maps.dtype)
    return place[keys - queries :, None] - place


def _causal(maps: Maps, who: str) -> None:
    if maps.shape[2] > maps.shape[3]:
        raise AttimeError(f"{who} needs causal maps with as many keys as queries or more; got {tuple(maps.shape)}.")
