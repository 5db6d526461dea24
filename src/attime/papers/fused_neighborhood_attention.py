"""Faster neighbourhood attention: tiles of queries share the halo of keys around them.

Claim:   fused kernels over tiles make neighbourhood attention up to 1607 % (1-D) and 581 % (2-D) faster than naive
         kernels, in memory that grows with the tokens and not with their square.
Parts:   attention.sparse.Neighbourhood, attention.kernels.tiles
Proof:   tiles give the numbers of the definition, place by place, on lines, images and clips of odd sizes, dilated and
         causal on some axes, and with a window over everything they are plain attention; pairs computed double when
         the line doubles; on one core they beat PyTorch's attention with a dense mask by a factor of three or more.
Differs: plain PyTorch on a CPU against a dense mask, where the paper times CUDA kernels against other CUDA kernels.
"""

import time

import torch
from torch.nn import functional as F

from attime.attention.kernels.tiles import attend_tiles
from attime.attention.sparse import Neighbourhood
from attime.attention.sparse.neighbourhood import boxes
from attime.papers.card import Paper, Verdict

__all__ = ["FULL", "PAPER", "run"]

PAPER = Paper(
    number=54,
    title="Faster Neighborhood Attention: Reducing the O(n^2) Cost of Self Attention at the Threadblock Level",
    url="https://arxiv.org/abs/2403.04690",
    parts=(Neighbourhood, attend_tiles),
)

FULL = dict(length=16384, rounds=5)

GRIDS = {
    "line": ((1, 1, 83), dict(kernel=(1, 1, 9), dilation=(1, 1, 3))),
    "image": ((1, 11, 13), dict(kernel=(1, 5, 7), dilation=(1, 2, 1))),
    "clip": ((5, 7, 6), dict(kernel=(2, 3, 5), causal=(True, False, False))),
}


def run(*, length: int = 4096, kernel: int = 65, rounds: int = 3, seed: int = 0) -> Verdict:
    """Compare with the definition on small grids, then time a line of `length` tokens."""
    torch.manual_seed(seed)
    numbers = {}
    for name, (sizes, options) in GRIDS.items():
        mixer = Neighbourhood(16, **options).double()
        x = torch.randn(1, *sizes, 16, dtype=torch.float64)
        numbers[f"error_{name}"] = (mixer(x)[0] - mixer.reference(x)).abs().max().item()

    q, k, v = torch.randn(3, 1, 2, length, 64)
    short = q[:, :, :300], k[:, :, :300], v[:, :, :300]
    whole = attend_tiles(*short, boxes((1, 1, 300), (1, 1, 300)), 0.125)
    plain = (short[0] @ short[1].mT / 8).softmax(-1) @ short[2]
    numbers["error_window_over_all"] = (whole - plain).abs().max().item()

    pairs = [boxes((1, 1, size), (1, 1, kernel)).seen.numel() for size in (length, 2 * length)]
    numbers["pairs_when_doubled"] = pairs[1] / pairs[0]
    numbers["pairs_of_dense"] = pairs[0] / length**2

    place = torch.arange(length)
    start = (place - kernel // 2).clamp(0, length - kernel)[:, None]
    mask = (place >= start) & (place < start + kernel)
    forms = {
        "dense_mask": lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=mask),
        "tiles": lambda: attend_tiles(q, k, v, boxes((1, 1, length), (1, 1, kernel)), 0.125),
    }
    for name, form in forms.items():
        form()
        seconds = []
        for _ in range(rounds):
            before = time.thread_time()
            form()
            seconds.append(time.thread_time() - before)
        numbers[f"{name}_ms"] = 1e3 * sorted(seconds)[rounds // 2]
    numbers["times_faster"] = numbers["dense_mask_ms"] / numbers["tiles_ms"]
    exact = all(numbers[f"error_{name}"] < 1e-10 for name in GRIDS) and numbers["error_window_over_all"] < 1e-5
    linear = numbers["pairs_when_doubled"] < 2.1
    faster = numbers["times_faster"] >= 3
    missed = [name for name, good in (("exactness", exact), ("linear growth", linear), ("speed", faster)) if not good]
    return Verdict(holds=not missed, numbers=numbers, reason=f"missed: {', '.join(missed)}" if missed else "")
