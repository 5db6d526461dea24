"""You only scan once: efficient multi-dimension sequential modeling with LightNet.

Claim:   an additive linear recurrence (keys are a softmax over all places) needs one scan for any number of axes, where a
         multiplicative decay needs one per direction.
Parts:   attention.linear.LightNetGrid, attention.linear.LightNet, attention.linear.Decay
Proof:   exact: the grid form is order-free, and the causal stream is the softmax form. One scan: every place moves every
         output, while one scan with decay leaves half of the pairs without effect. Two (forward and backward) are the
         fewest that connect all; their recurrences (the baseline) take more than twice the time of the one scan. Four,
         by rows and by columns, as models with decay use on images, are timed too.
Differs: image classification and generation are not shown; positions (MD-TPE, MD-LRPE) are left out.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from attime.attention.kernels.recurrence import recur
from attime.attention.linear import Decay, LightNet, LightNetGrid
from attime.papers.card import Paper, Verdict

PAPER = Paper(
    number=62,
    title="You Only Scan Once: Efficient Multi-dimension Sequential Modeling with LightNet",
    url="https://arxiv.org/abs/2405.21022",
    parts=(LightNetGrid, LightNet, Decay),
)
FULL = dict(side=128, dim=256, heads=4)


def run(*, side: int = 64, dim: int = 64, heads: int = 2, seed: int = 0) -> Verdict:
    """Exactness, who moves whom on a small grid, and time on a large one."""
    torch.manual_seed(seed)
    grid, causal = LightNetGrid(dim, heads=heads, gate_dim=dim), LightNet(dim, heads=heads).double()
    decay = Decay(dim, heads=heads)
    small, x, state, out = torch.randn(1, 1, 4, 5, dim), torch.randn(2, 60, dim, dtype=torch.float64), None, []
    numbers = {}
    with torch.no_grad():
        order = torch.randperm(20)
        shuffled = grid(small.flatten(1, 3)[:, order].view_as(small))[0].flatten(1, 3)
        numbers["order_error"] = float((shuffled - grid(small)[0].flatten(1, 3)[:, order]).abs().max())
        for chunk in x.split([1, 40, 1, 18], dim=1):
            y, state = causal(chunk, state)
            out.append(y)
        numbers["stream_error"] = float((torch.cat(out, dim=1) - causal.reference(x)).abs().max())
    numbers["pairs_one_scan"] = reached(lambda clip: grid(clip)[0], small)
    numbers["pairs_one_decay_scan"] = reached(lambda clip: scans(decay, clip, 1), small)
    numbers["pairs_two_decay_scans"] = reached(lambda clip: scans(decay, clip, 2), small)

    q, k, v = torch.randn(3, 1, heads, side * side, dim // heads)  # projections, the same for all, are not timed
    empty, rate = torch.zeros(1, heads, dim // heads, dim // heads), decay.log_decay.float()
    turned = [each.unflatten(2, (side, side)).transpose(2, 3).flatten(2, 3) for each in (q, k, v)]
    lines = [(q, k, v), [each.flip(2) for each in (q, k, v)], turned, [each.flip(2) for each in turned]]
    with torch.no_grad():
        calls = {
            "one_scan": lambda: q @ (k.softmax(dim=2).mT @ v),
            "two_decay_scans": lambda: [recur(a, b, c, rate, empty) for a, b, c in lines[:2]],
            "four_decay_scans": lambda: [recur(a, b, c, rate, empty) for a, b, c in lines],
        }
        for name, call in calls.items():
            taken = []
            for _ in range(7):
                start = time.thread_time()
                call()
                taken.append(time.thread_time() - start)
            numbers[f"{name}_ms"] = 1000 * min(taken)
    exact = numbers["order_error"] < 1e-5 and numbers["stream_error"] < 1e-10
    connected = numbers["pairs_one_scan"] == numbers["pairs_two_decay_scans"] == 1 > numbers["pairs_one_decay_scan"]
    faster = numbers["two_decay_scans_ms"] / numbers["one_scan_ms"]
    holds = exact and connected and faster > 2
    reason = "" if holds else f"exact: {exact}, all pairs connected: {connected}, {faster:.1f}x as fast as two scans"
    return Verdict(holds=holds, numbers=numbers, reason=reason)


def scans(decay: Decay, clip: Tensor, directions: int) -> Tensor:
    """The sum of scans over a grid: by rows, by rows backwards, by columns, by columns backwards."""
    total = torch.zeros_like(clip)
    for direction in range(directions):
        turned = clip.transpose(2, 3) if direction >= 2 else clip
        line = turned.flatten(1, 3)
        y = decay(line.flip(1))[0].flip(1) if direction % 2 else decay(line)[0]
        y = y.view_as(turned)
        total = total + (y.transpose(2, 3) if direction >= 2 else y)
    return total


def reached(mix: Callable[[Tensor], Tensor], clip: Tensor) -> float:
    """Share of pairs of places of which one moves the output at the other."""
    clip = clip.clone().requires_grad_()
    outputs = mix(clip).flatten(0, 3).sum(1)
    moved = [torch.autograd.grad(each, clip, retain_graph=True)[0].flatten(0, 3).abs().sum(1) > 0 for each in outputs]
    return float(torch.stack(moved).double().mean())
