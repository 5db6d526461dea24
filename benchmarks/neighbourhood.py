"""Neighbourhood attention in tiles against attention with a dense mask, on a line, an image and a clip.

python benchmarks/neighbourhood.py [--quick]
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from attime.attention.kernels.tiles import attend_tiles
from attime.attention.spans import Neighbourhood
from attime.attention.sparse.neighbourhood import boxes
from timing import Table, forward_backward, medians, quick

HEADS, HEAD_DIM = 4, 64

# name, sizes, kernel, goal forward, goal forward and backward
CASES = [
    ("line 4096, 65", (1, 1, 4096), (1, 1, 65), 3.0, 3.0),
    ("image 64x64, 9x9", (1, 64, 64), (1, 9, 9), 3.0, 3.0),
    ("image 64x64, 13x13", (1, 64, 64), (1, 13, 13), None, None),
    ("clip 8x16x16, 3x5x5", (8, 16, 16), (3, 5, 5), None, None),
]
MORE = [
    ("line 16384, 65", (1, 1, 16384), (1, 1, 65), 12.0, 12.0),
    ("image 96x96, 13x13", (1, 96, 96), (1, 13, 13), 3.0, 3.0),
    ("clip 16x32x16, 5x7x7", (16, 32, 16), (5, 7, 7), 3.0, 3.0),
]


def compare(table: Table, name: str, sizes: tuple, kernel: tuple, goal: float | None, trained: float | None) -> None:
    places = sizes[0] * sizes[1] * sizes[2]
    q, k, v = torch.randn(3, 1, HEADS, places, HEAD_DIM)
    mask = Neighbourhood(sizes, kernel).dense(places)

    def dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    def tiles(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend_tiles(q, k, v, boxes(sizes, kernel), HEAD_DIM**-0.5)

    error = (dense(q, k, v) - tiles(q, k, v)).abs().max().item()
    table.ratio(f"{name}: error", error, at_most=2e-6)  # gate first, then time
    forward = medians({"dense": lambda: dense(q, k, v), "tiles": lambda: tiles(q, k, v)}, rounds=3)
    table.ratio(f"{name}: forward, times faster", forward["dense"] / forward["tiles"], at_least=goal)
    both = {"dense": forward_backward(dense, q, k, v), "tiles": forward_backward(tiles, q, k, v)}
    both = medians(both, rounds=1 if places > 4096 else 2)
    table.ratio(f"{name}: forward and backward", both["dense"] / both["tiles"], at_least=trained)


def main() -> None:
    cases = CASES[:2] + CASES[3:] if quick(__doc__) else CASES + MORE
    torch.manual_seed(0)
    table = Table()
    for case in cases:
        compare(table, *case)
    seconds = {}
    for length in (4096, 16384):
        q, k, v = torch.randn(3, 1, HEADS, length, HEAD_DIM)
        runs = {"tiles": lambda q=q, k=k, v=v: attend_tiles(q, k, v, boxes((1, 1, q.shape[2]), (1, 1, 65)), 0.125)}
        seconds[length] = medians(runs, rounds=5)["tiles"] / length
    table.ratio("seconds per token, 16384 to 4096 tokens", seconds[16384] / seconds[4096], at_most=1.5)
    table.show()


if __name__ == "__main__":
    main()
