"""Timing that is right on a busy machine: one thread, its CPU time, interleaved medians, ratios within one process.

    table = Table()
    seconds = medians({"sdpa": dense, "ours": window}, rounds=5)
    table.ratio("window 4k fwd", seconds["sdpa"] / seconds["ours"], at_least=7.0)
    table.show()

Other processes' time slices do not count in `thread_time`; caches and memory bandwidth are still shared, so only
ratios taken in one call of `medians` mean anything.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import statistics
import time
from collections.abc import Callable, Mapping

import torch

__all__ = ["Table", "forward_backward", "medians", "quick"]


def medians(runs: Mapping[str, Callable[[], object]], *, rounds: int = 5, least_s: float = 0.0) -> dict[str, float]:
    """Median CPU seconds of one call of each run, after one warm-up each, all runs taking turns.

    A run shorter than `least_s` is repeated within a turn until it lasts about so long.
    """
    torch.set_num_threads(1)
    repeats = {}
    for name, run in runs.items():
        run()
        start = time.thread_time()
        run()
        repeats[name] = max(1, round(least_s / max(time.thread_time() - start, 1e-7)))
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.thread_time()
            for _ in range(repeats[name]):
                run()
            found[name].append((time.thread_time() - start) / repeats[name])
    return {name: statistics.median(times) for name, times in found.items()}


def forward_backward(
    compute: Callable[..., torch.Tensor], *inputs: torch.Tensor, gradient: torch.Tensor | None = None
) -> Callable[[], None]:
    """A run of `compute(*inputs)` and its backward pass to every input."""
    leaves = [each.detach().clone().requires_grad_() for each in inputs]

    def run() -> None:
        out = compute(*leaves)
        torch.autograd.grad(out, leaves, torch.ones_like(out) if gradient is None else gradient)

    return run


class Table:
    """Lines of measured numbers, each beside its goal."""

    def __init__(self) -> None:
        self.missed: list[str] = []
        self.lines: list[str] = []

    def ratio(self, name: str, value: float, *, at_least: float | None = None, at_most: float | None = None) -> None:
        """One line, printed at once; goals are `at_least` (higher is better) or `at_most`."""
        missed = (at_least is not None and value < at_least) or (at_most is not None and value > at_most)
        goal = f">= {at_least:g}" if at_least is not None else f"<= {at_most:g}" if at_most is not None else "-"
        line = f"{name:<52} {value:>10.3g}   goal {goal:<10} {'MISSED' if missed else ''}".rstrip()
        self.lines.append(line)
        if missed:
            self.missed.append(name)
        print(line, flush=True)

    def note(self, text: str) -> None:
        """A line without a goal."""
        self.lines.append(text)
        print(text, flush=True)

    def show(self) -> None:
        """The last line: how many goals were missed."""
        print(
            f"{len(self.lines)} lines, {len(self.missed)} goals missed" + "".join(f"\n  {each}" for each in self.missed)
        )


def quick(description: str | None) -> bool:
    """Parse the command line, which has one option: `--quick`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, under 20 seconds")
    return parser.parse_args().quick
