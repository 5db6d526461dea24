"""What a head does, and how much of it, as far as its map tells: roles with a share from 0 to 1, and other measures."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from attime.control.call import Call
from attime.lens import (
    attention_distance,
    hop_profile,
    massive_dims,
    massive_tokens,
    sink_rate,
    temporal_energy,
)

__all__ = ["ROLES", "is_causal", "measures", "roles", "visual_sinks"]

ROLES = {
    "class token": "patches give this share of their attention to tokens that are no patches (0.3 or more)",
    "far": "among the 30 % of heads that look furthest back; how far, of the way to the first token",
    "local": "looks at the last 4 tokens, or in a picture at neighbouring patches (half of its attention or more)",
    "retrieval": "tokens that have been there before give this share to what followed them then (0.3 or more)",
    "sink": "gives this share to the first token (0.3 or more)",
    "temporal": "looks at other frames than its own (half or more)",
    "visual": "words give this share of their attention to the picture (0.2 or more)",
    "visual sink": "of what words give to the picture, this share lies on tokens with massive values (half or more)",
}
"""Names of roles, and what their numbers are."""
NEAR, WINDOW = 4, 10  # tokens that a local head looks back on average, at most; window of the windowed distance


def roles(
    weights: Tensor, *, frames: Sequence[int] | None, grid: tuple[int, int] | None, square: bool, ids: Sequence[int]
) -> dict[str, float]:
    """Of one head's map (query key); `grid` where all but the first of them are patches of one picture, `ids` are what the
    tokens are, where that is known."""
    maps, found = weights[None, None].double(), dict[str, float]()
    if not square or len(weights) < 3:
        return found
    one = maps[0, 0]
    if grid is not None and (first := len(weights) - grid[0] * grid[1]) >= 0:
        hops = hop_profile(maps, height=grid[0], width=grid[1], first=first)[0, 0]
        if 1 - float(hops.sum()) >= 0.3:
            found["class token"] = 1 - float(hops.sum())
        if max(grid) >= 4 and float(hops[:2].sum()) >= 0.5:
            found["local"] = float(hops[:2].sum())
        return found
    if frames is not None:
        frame = torch.tensor(list(frames))
        seen, words = frame >= 0, frame < 0
        both = seen[:, None] & seen
        apart = both & (frame[:, None] != frame)
        mass = float((one * both).sum())
        if max(frames) > 0 and mass > 0 and float((one * apart).sum()) / mass > 0.5:
            found["temporal"] = float((one * apart).sum()) / mass
        if words.any() and seen.any() and float(looked := one[words][:, seen].sum(-1).mean()) >= 0.2:
            found["visual"] = float(looked)
    if not is_causal(weights):
        return found
    if float(sink_rate(maps)[0]) and float(one[1:, 0].mean()) >= 0.3:
        found["sink"] = float(one[1:, 0].mean())
    elif float(attention_distance(maps).mean()) <= NEAR:
        found["local"] = float((one * torch.ones_like(one).tril().triu(-NEAR)).sum(-1).mean())
    copied, even = _copied(one, ids)
    if copied > max(0.3, 2 * even):
        found["retrieval"] = copied
    return found


def measures(weights: Tensor, *, grid: tuple[int, int] | None, square: bool) -> dict[str, float]:
    """Numbers that a head has whatever it does, named as the page shows them."""
    maps = weights[None, None].double()
    found = {"keys it spreads over": 1 / max(float(temporal_energy(maps)), 1e-9)}
    if square and grid is None and is_causal(weights):
        found["tokens back"] = float(attention_distance(maps).mean())
        found[f"tokens back (window {WINDOW})"] = float(attention_distance(maps, window=WINDOW).mean())
    elif square and grid is not None and (first := len(weights) - grid[0] * grid[1]) >= 0:
        hops = hop_profile(maps, height=grid[0], width=grid[1], first=first)[0, 0]
        found["patches away"] = float((hops * torch.arange(len(hops))).sum() / hops.sum().clamp(min=1e-9))
    return found


def is_causal(weights: Tensor) -> bool:
    """Nobody looks at what comes later (query key)."""
    return float(weights.triu(1).sum()) <= 1e-3 * len(weights)


def visual_sinks(call: Call) -> Tensor | None:
    """Of the attention that words of the last row give to the picture, the share on sinks, for each head; None without both."""
    if call.visual is None or call.stream is None or call.stream.shape[1] != call.visual.shape[1]:
        return None
    visual = call.visual[-1]
    words = ~visual
    if not visual.any() or not words.any():
        return None
    stream = call.stream[-1:]
    sinks = massive_tokens(stream, massive_dims(stream))[0] & visual
    looked = call.maps[-1][:, words]
    return looked[..., sinks].sum((1, 2)) / looked[..., visual].sum((1, 2)).clamp(min=1e-9)


def _copied(weights: Tensor, ids: Sequence[int]) -> tuple[float, float]:
    """Attention of tokens that have been there before to what followed them, mean over these tokens, and what it would be if
    they looked everywhere alike."""
    found, places = list[tuple[float, float]](), dict[int, list[int]]()
    for now, number in enumerate(ids):
        after = [place + 1 for place in places.get(number, []) if place + 1 < now]
        if after:
            found.append((float(weights[now, after].sum()), len(after) / (now + 1)))
        places.setdefault(number, []).append(now)
    copied, even = np.mean(found, axis=0).tolist() if len(found) > 1 else (0.0, 0.0)
    return copied, even
