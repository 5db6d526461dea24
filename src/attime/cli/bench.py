"""`attime bench`: a mixer's cost as it states it, and its speed against full attention as measured here."""

import argparse
import json
import time
from statistics import median

import torch
from rich.console import Console
from torch import Tensor, nn

from attime.attention.contract import Mixer
from attime.errors import AttimeError
from attime.models.recipe import Recipe
from attime.report import listing

__all__ = ["bench"]


def bench(options: argparse.Namespace) -> int:
    """Interleaved medians of CPU time on one thread, as ratios to full attention, with the crossover."""
    torch.set_num_threads(1)
    dtype = getattr(torch, options.dtype)
    if min(options.lengths) < 1 or options.dim < 8:
        raise AttimeError(f"bench needs --lengths >= 1 and --dim >= 8; got {options.lengths} and {options.dim}.")
    mixers = {name: _mixer(name, options.dim).to(dtype) for name in dict.fromkeys(["Softmax", *options.names])}
    rows = []
    for length in sorted(options.lengths):
        x = torch.randn(1, length, options.dim, generator=torch.Generator().manual_seed(0)).to(dtype)
        times = _times(mixers, x, train=options.train)
        for name, mixer in mixers.items():
            cost = mixer.cost(length, dtype)
            rows.append(
                {
                    "mixer": name,
                    "tokens": length,
                    "ms": times[name] * 1e3,
                    "times_softmax": times["Softmax"] / times[name],
                    "tokens_per_s": length / times[name],
                    "state_bytes": cost.state_bytes,
                    "operations_per_step": cost.operations,
                }
            )
    crossover = {
        name: next((row["tokens"] for row in rows if row["mixer"] == name and row["times_softmax"] > 1), None)
        for name in options.names
    }
    if options.json:
        print(json.dumps({"rows": rows, "crossover": crossover, "dtype": options.dtype, "train": options.train}))
        return 0
    shown = [
        (row["mixer"], f"{row['tokens']}", f"{row['ms']:.2f}", f"{row['times_softmax']:.2f}x", f"{row['tokens_per_s']:,.0f}",
         f"{row['state_bytes']:,}", f"{row['operations_per_step']:,}")
        for row in rows
    ]  # fmt: skip
    Console().print(
        listing(("mixer", "tokens", "ms", "speed of Softmax", "tokens/s", "state bytes", "operations/step"), shown)
    )
    for name, length in crossover.items():
        print(
            f"{name}: "
            + (f"faster than Softmax from {length} tokens" if length else "not faster than Softmax at these lengths")
        )
    return 0


def _mixer(name: str, dim: int) -> Mixer:
    block = (
        Recipe(mixer=name, dim=dim, heads=max(1, dim // 64), layers=1, vocabulary=2)
        .build()
        .get_submodule("stack.blocks.0")
    )
    mixer = block.get_submodule("mixer")
    assert isinstance(mixer, Mixer)
    return mixer


def _times(mixers: dict[str, Mixer], x: Tensor, *, train: bool, repeats: int = 5) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in mixers}
    for _ in range(repeats + 1):
        for name, mixer in mixers.items():
            start = time.thread_time()
            _once(mixer, x, train)
            times[name].append(time.thread_time() - start)
    return {name: median(taken[1:]) for name, taken in times.items()}


def _once(mixer: nn.Module, x: Tensor, train: bool) -> None:
    with torch.set_grad_enabled(train):
        y, _ = mixer(x)
        if train:
            y.sum().backward()
