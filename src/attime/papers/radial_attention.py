"""Radial attention: a static mask for video whose kept pairs grow as n log n, and which fits near and far heads alike.

Claim:   1.9x faster at the quality of dense attention; 4x longer video with 4.4x cheaper tuning.
Parts:   attention.sparse.Radial, attention.spans.Radial
Proof:   count kept pairs while frames double: keys per query grow by no more per doubling (dense: twice as many), so
         density falls. On attention maps that decay with distance in time and in space, of a head that looks at its
         frame and of one that looks along time, the worst error of the mask is below that of a sliding window, of
         columns along time, of strides and of random pairs, each with as many pairs per query. A band that covers
         everything is dense attention to rounding.
Differs: maps are made, not taken from a trained video model; no speed is claimed: below some 16 frames of 1024 places
         a CPU gains nothing.
"""

import itertools

import torch

from attime.attention import spans
from attime.attention.sparse import Radial
from attime.papers.card import Paper, Verdict

__all__ = ["FULL", "PAPER", "run"]

PAPER = Paper(
    number=267,
    title="Radial Attention: O(nlog n) Sparse Attention with Energy Decay for Long Video Generation",
    url="https://arxiv.org/abs/2506.19852",
    parts=(Radial, spans.Radial),
)

FULL = dict(frames=32, places=64, doublings=8)


def run(*, frames: int = 12, places: int = 64, block: int = 4, doublings: int = 6, seed: int = 0) -> Verdict:
    """Count pairs for 8, 16, ... frames, and compare masks on two kinds of maps."""
    torch.manual_seed(seed)
    counts = [8 * 2**step for step in range(doublings)]
    keys = [_kept(spans.Radial(count, places, block=block)) / (count * places) for count in counts]
    steps = [after - before for before, after in itertools.pairwise(keys)]
    numbers = {f"density_{count}_frames": kept / (count * places) for count, kept in zip(counts, keys, strict=True)}
    numbers["last_doubling_adds_keys"], numbers["most_a_doubling_adds"] = steps[-1], max(steps[:-1])
    # a doubling adds, on either side, frames whose bands add up to L (1 + 1 / 2 block) keys, and L <= 2 places
    numbers["log_bound_per_doubling"] = 4.0 * places * (1 + 1 / (2 * block))

    errors = _errors(frames, places, block)
    numbers |= {f"worst_error_{name}": error for name, error in errors.items()}

    dense = Radial(16, decay=64.0, block=1, sink=False).double()
    x = torch.randn(1, 5, 6, 7, 16, dtype=torch.float64)
    q, k, v = dense.inputs(x.flatten(1, 3)).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
    full = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    numbers["wide_band_is_dense"] = (dense(x)[0] - dense.output(full).view_as(x)).abs().max().item()
    holds = (
        steps[-1] <= numbers["log_bound_per_doubling"]
        and steps[-1] < steps[0] * 2 ** (doublings - 2) / 4
        and keys[-1] / counts[-1] < keys[0] / counts[0] / 2
        and all(errors["radial"] < error for name, error in errors.items() if name != "radial")
        and numbers["wide_band_is_dense"] < 1e-10
    )
    return Verdict(holds=holds, numbers=numbers, reason="" if holds else "the count or an error is not as claimed")


def _kept(span: spans.Radial) -> int:
    """Pairs that a mask keeps, from the widths of its bands."""
    total, places = 0, span.tokens
    for distance in range(span.frames):
        reach = min(span.width(distance), places - 1)
        band = places * (2 * reach + 1) - reach * (reach + 1) if reach >= 0 else 0
        total += band * (span.frames - distance) * (1 if distance == 0 else 2)
    return total


def _errors(frames: int, places: int, block: int) -> dict[str, float]:
    """For each kind of mask, its worst relative error over a spatial and a temporal head."""
    n = frames * places
    token = torch.arange(n)
    time = (token[:, None] // places - token // places).abs()
    space = (token[:, None] % places - token % places).abs()
    radial = spans.Radial(frames, places, decay=0.2, block=block).dense(n)
    count = radial.sum(1)
    line = (token[:, None] - token).abs()
    every = max(1, round(n / count.float().mean().item()))
    first = {
        "window": line,
        "columns": space * frames + time,
        "strides": (line % every > 0) * n + line,
        "random": torch.rand(n, n) * (line > 0),
    }
    masks = {name: order.argsort(1).argsort(1) < count[:, None] for name, order in first.items()}
    worst = dict.fromkeys(("radial", *masks), 0.0)
    value = torch.randn(n, 32)
    for near, far in ((1.0, 16.0), (16.0, 1.0)):  # how far a head looks: frames, places
        scores = -time / near - space / far + 0.5 * torch.randn(n, n)
        exact = scores.softmax(-1) @ value
        for name, mask in {"radial": radial, **masks}.items():
            out = scores.masked_fill(~mask, -torch.inf).softmax(-1) @ value
            worst[name] = max(worst[name], ((out - exact).norm() / exact.norm()).item())
    return worst
