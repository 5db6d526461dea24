"""Speed of the recurrence kernels on one core: against softmax attention, over lengths, in memory and token by token.

    python benchmarks/recurrence.py [--quick]

Shapes are 1 row, 8 heads of 64, causal; `x` is the time of `scaled_dot_product_attention` over ours.
"""

import multiprocessing
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from attime.attention.kernels.delta import recur_delta, recur_delta_naive
from attime.attention.kernels.recurrence import recur, recur_naive
from timing import Table, forward_backward, medians, quick

Kernel = Callable[..., tuple[Tensor, Tensor]]

HEADS, SIZE = 8, 64
MEMORY = torch.zeros(1, HEADS, SIZE, SIZE)
REFRESH = Path("/proc/self/clear_refs")


def main() -> None:
    brief = quick(__doc__)
    table = Table()
    parity(table)
    for dtype, lengths in ((torch.float32, (512, 1024, 4096)), (torch.bfloat16, (512, 2048))):
        against_softmax(table, lengths if brief else (512, 1024, 2048, 4096, 16384), dtype, rounds=1 if brief else 3)
    flatness(table, (1024, 4096, 16384) if brief else (1024, 4096, 16384, 65536))
    other_decays(table, 1024 if brief else 4096)
    delta(table, 1024 if brief else 4096)
    memory(table, (4096,) if brief else (4096, 16384))
    decode(table)
    table.show()


def parity(table: Table) -> None:
    """No speed counts before the numbers are right (G1)."""
    for dtype, outputs, gradients in ((torch.float32, 1e-6, 5e-6), (torch.bfloat16, 5e-3, 5e-2)):
        q, k, v, decay, beta = inputs(1024, dtype)
        kernels: dict[str, tuple[Kernel, Kernel, tuple[Tensor, ...]]] = {
            "recur": (recur, recur_naive, (decay,)),
            "recur_delta": (recur_delta, recur_delta_naive, (decay, beta)),
        }
        for name, (fast, naive, more) in kernels.items():
            leaves = [x.clone().requires_grad_() for x in (q, k, v, *more)]
            found = []
            for form in (naive, fast):
                out, memory = form(*leaves, MEMORY)
                found.append((out, *torch.autograd.grad((out.sum(), memory.square().sum()), leaves)))
            errors = [((ours - true).norm() / true.norm()).item() for true, ours in zip(*found, strict=True)]
            kind = str(dtype).removeprefix("torch.")
            table.ratio(f"G1 {name} error of outputs, {kind}", errors[0], at_most=outputs)
            table.ratio(f"G1 {name} error of gradients, {kind}", max(errors[1:]), at_most=gradients)


def against_softmax(table: Table, lengths: tuple[int, ...], dtype: torch.dtype, *, rounds: int) -> None:
    """G3 and G4: how many times faster than softmax attention."""
    kind = "float32" if dtype == torch.float32 else "bfloat16"
    wide = dtype == torch.float32
    forward = {1024: 1.0, 4096: 2.5, 16384: 10.0} if wide else {2048: 1.0, 4096: 1.8, 16384: 6.0}
    both = {512: 1.0, 4096: 4.0, 16384: 10.0}
    for length in lengths:
        q, k, v, decay, _ = inputs(length, dtype)
        runs = {"dense": partial(dense, q, k, v), "ours": partial(recur, q, k, v, decay, MEMORY)}
        times = medians(runs, rounds=rounds if length >= 4096 else 5)
        name, goal = f"recur fwd {kind} {length}, x", forward.get(length)
        table.ratio(f"G3 {name}", times["dense"] / times["ours"], at_least=goal)
        runs = {"dense": forward_backward(dense, q, k, v), "ours": forward_backward(recur_out, q, k, v, decay)}
        times = medians(runs, rounds=rounds if length >= 4096 else 5)
        name, goal = f"recur f+b {kind} {length}, x", both.get(length)
        table.ratio(f"G4 {name}", times["dense"] / times["ours"], at_least=goal)


def flatness(table: Table, lengths: tuple[int, ...]) -> None:
    """G5: tokens per second do not depend on the length."""
    for dtype, least in ((torch.float32, 100.0), (torch.bfloat16, 130.0)):
        runs = {str(length): partial(recur, *inputs(length, dtype)[:4], MEMORY) for length in lengths}
        speeds = {name: int(name) / 1e3 / seconds for name, seconds in medians(runs, rounds=5).items()}
        kind = str(dtype).removeprefix("torch.")
        table.note(f"  thousand tokens/s, fwd {kind}: " + ", ".join(f"{n}: {s:.0f}" for n, s in speeds.items()))
        table.ratio(f"G5 slowest length / fastest, {kind}", min(speeds.values()) / max(speeds.values()), at_least=0.75)
        table.ratio(f"G5 thousand tokens/s of the slowest, {kind}", min(speeds.values()), at_least=least)


def other_decays(table: Table, length: int) -> None:
    """Forms of decay beside one per token; no goals, regressions show."""
    q, k, v, decay, _ = inputs(length, torch.float32)
    channels = decay[..., None] * torch.rand(SIZE)
    forms = {"none": None, "per head": decay[0, :, 0], "per token": decay, "per channel": channels}
    runs = {name: partial(recur, q, k, v, form, MEMORY) for name, form in forms.items()}
    times = medians({"dense": partial(dense, q, k, v), **runs})
    for name in forms:
        table.ratio(f"recur fwd float32 {length}, decay {name}, x", times["dense"] / times[name])
    runs = {
        "dense": forward_backward(dense, q, k, v),
        "none": forward_backward(lambda q, k, v: recur_out(q, k, v, None), q, k, v),
        "per channel": forward_backward(recur_out, q, k, v, channels),
    }
    times = medians(runs)
    for name in ("none", "per channel"):
        table.ratio(f"recur f+b float32 {length}, decay {name}, x", times["dense"] / times[name])


def delta(table: Table, length: int) -> None:
    """G7: the gated delta rule against softmax attention and against one token at a time."""
    x = inputs(length, torch.float32)
    times = medians({"dense": partial(dense, *x[:3]), "ours": partial(recur_delta, *x, MEMORY)})
    table.ratio(f"G7 delta fwd {length}, x", times["dense"] / times["ours"], at_least=1.0)
    runs = {"dense": forward_backward(dense, *x[:3]), "ours": forward_backward(delta_out, *x)}
    times = medians(runs)
    table.ratio(f"G7 delta f+b {length}, x", times["dense"] / times["ours"], at_least=1.8 if length >= 4096 else None)
    slow = forward_backward(delta_naive_out, *x)
    times = medians({"naive": slow, "ours": runs["ours"]}, rounds=3)
    table.ratio(f"G7 delta f+b {length}, naive / ours", times["naive"] / times["ours"], at_least=5.0)


def decode(table: Table) -> None:
    """G10: one token, after a past of any length."""
    x = inputs(1, torch.float32)
    with torch.no_grad():
        runs = {"recur": partial(recur, *x[:4], MEMORY), "recur_delta": partial(recur_delta, *x, MEMORY)}
        times = medians(runs, rounds=15, least_s=0.02)
    for name, seconds in times.items():
        table.ratio(f"G10 {name}, one token, microseconds", seconds * 1e6, at_most=30)


def memory(table: Table, lengths: tuple[int, ...]) -> None:
    """G6: peak growth of a fresh process by one forward and backward pass, over the bytes of its inputs."""
    if not REFRESH.exists():
        table.note("  G6 needs Linux's /proc")
        return
    for length in lengths:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            table.ratio(f"G6 peak memory of f+b / input bytes, {length}", pool.apply(growth, (length,)), at_most=3.0)


def growth(length: int) -> float:
    torch.set_num_threads(1)
    forward_backward(recur_out, *inputs(512, torch.float32)[:4])()
    leaves = [each.requires_grad_() for each in inputs(length, torch.float32)[:4]]
    REFRESH.write_text("5")  # the peak starts from now
    before = peak()
    out = recur_out(*leaves)
    torch.autograd.grad(out, leaves, torch.ones_like(out))
    return (peak() - before) / sum(x.numel() * x.element_size() for x in leaves)


def peak() -> int:
    """The most bytes that were resident at once."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def inputs(length: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """q, k, v, log decay and beta; keys of length one."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, HEADS, length, SIZE, generator=generator) for _ in range(3))
    decay, beta = (torch.rand(1, HEADS, length, generator=generator) for _ in range(2))
    return q.to(dtype), F.normalize(k, dim=-1).to(dtype), v.to(dtype), -0.1 * decay, beta


def dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def recur_out(q: Tensor, k: Tensor, v: Tensor, decay: Tensor | None) -> Tensor:
    return recur(q, k, v, decay, MEMORY)[0]


def delta_out(q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor) -> Tensor:
    return recur_delta(q, k, v, decay, beta, MEMORY)[0]


def delta_naive_out(q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor) -> Tensor:
    return recur_delta_naive(q, k, v, decay, beta, MEMORY)[0]


if __name__ == "__main__":
    main()
