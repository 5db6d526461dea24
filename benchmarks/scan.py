"""Scans and state-space mixers against plain loops, in one process: `python benchmarks/scan.py [--quick]`.

Goal: the selective scan is 2.5 times as fast as the plain form (all decays first, then a loop that indexes them); a
streaming step and its state cost the same after a thousand tokens as after a million.
"""

from functools import partial

import torch
from torch import Tensor

from attime.attention.contract import Mixer
from attime.attention.kernels.scan import scan, scan_naive, selective_scan, selective_scan_naive
from attime.attention.ssm import LSSL, Diagonal, Selective
from timing import Table, forward_backward, medians, quick


def selective_plain(x: Tensor, step: Tensor, rate: Tensor, write: Tensor, read: Tensor) -> Tensor:
    """What a reference implementation does: decays and inputs of all times in memory, channels before time."""
    decay = torch.exp(torch.einsum("bdt,nd->bdtn", step, rate))
    entering = torch.einsum("bdt,bnt,bdt->bdtn", step, write, x)
    memory, outputs = x.new_zeros(x.shape[0], x.shape[1], rate.shape[0]), []
    for t in range(x.shape[2]):
        memory = decay[:, :, t] * memory + entering[:, :, t]
        outputs.append(torch.einsum("bdn,bn->bd", memory, read[:, :, t]))
    return torch.stack(outputs, dim=2)


def selective(table: Table, *, time: int, dim: int, slots: int = 16) -> None:
    x, step = torch.rand(1, time, dim), torch.rand(1, time, dim)
    write, read = torch.rand(1, time, slots), torch.rand(1, time, slots)
    rate = -torch.arange(1.0, slots + 1)[:, None].repeat(1, dim)
    memory = torch.zeros(1, slots, dim)
    inputs = (x, step, rate, write, read)
    plain = tuple(each.mT.contiguous() if each.dim() == 3 else each for each in inputs)  # channels before time
    difference = (selective_scan(x, step, rate, write, read, memory)[0] - selective_plain(*plain).mT).abs().max()
    assert difference < 1e-4, f"the two forms differ by {difference}"
    with torch.no_grad():
        taken = medians(
            {
                "plain": partial(selective_plain, *plain),
                "unbind": lambda: selective_scan_naive(x, step, rate, write, read, memory),
                "ours": lambda: selective_scan(x, step, rate, write, read, memory),
            },
            rounds=3,
        )
    table.ratio(f"selective scan {time}x{dim}x{slots} forward, x plain", taken["plain"] / taken["ours"], at_least=2.5)
    table.ratio(f"selective scan {time}x{dim}x{slots} forward, x unbind", taken["unbind"] / taken["ours"])
    short = tuple(each[:, :512] if each.dim() == 3 else each for each in inputs)
    taken = medians(
        {
            "plain": forward_backward(
                selective_plain, *(each[..., :512] if each.dim() == 3 else each for each in plain)
            ),
            "unbind": forward_backward(lambda x, h, a, w, r: selective_scan_naive(x, h, a, w, r, memory)[0], *short),
            "ours": forward_backward(lambda x, h, a, w, r: selective_scan(x, h, a, w, r, memory)[0], *short),
        },
        rounds=3,
    )
    table.ratio(f"selective scan 512x{dim}x{slots} training, x plain", taken["plain"] / taken["ours"], at_least=2.5)
    table.ratio(f"selective scan 512x{dim}x{slots} training, x unbind", taken["unbind"] / taken["ours"], at_least=1.5)


def diagonal(table: Table, *, time: int) -> None:
    for slots, dtype, goal in ((64, torch.complex64, 3.0), (512, torch.float32, 1.5), (8192, torch.float32, None)):
        a, b = torch.rand(1, time, slots).to(dtype), torch.randn(1, time, slots, dtype=dtype)
        state = torch.zeros(1, slots, dtype=dtype)
        with torch.no_grad():
            taken = medians({"loop": partial(scan_naive, a, b, state), "ours": partial(scan, a, b, state)}, rounds=3)
        name = f"scan {time}x{slots} {str(dtype).removeprefix('torch.')}"
        table.ratio(f"{name} forward, x loop", taken["loop"] / taken["ours"], at_least=goal)
        runs = {
            "loop": forward_backward(lambda a, b, state=state: scan_naive(a, b, state)[0].abs(), a, b),
            "ours": forward_backward(lambda a, b, state=state: scan(a, b, state)[0].abs(), a, b),
        }
        taken = medians(runs, rounds=3)
        table.ratio(f"{name} training, x loop", taken["loop"] / taken["ours"], at_least=goal)


@torch.no_grad()
def streaming(table: Table, mixers: list[Mixer], *, lengths: tuple[int, ...]) -> None:
    """The step after long pasts, fed 4096 tokens at a time."""
    for mixer in mixers:
        name, x, state, steps, fed = type(mixer).__name__, torch.randn(1, 4096, mixer.dim), None, {}, 0
        sizes = set()
        for length in lengths:
            while fed < length:
                _, state = mixer(x[:, : length - fed], state)
                fed = min(fed + 4096, length)
            steps[str(length)] = partial(mixer, x[:, :1], state)
            assert state is not None
            sizes.add(state.nbytes)
        taken = medians(steps, rounds=9, least_s=0.02)
        table.note(f"{name} dim {mixer.dim}: {1e6 * taken[str(lengths[0])]:.0f} us a token, state {max(sizes):,} bytes")
        table.ratio(f"{name} state bytes {lengths[-1]} / {lengths[0]} tokens", len(sizes), at_most=1)
        table.ratio(
            f"{name} step {lengths[-1]} / {lengths[0]} tokens",
            taken[str(lengths[-1])] / taken[str(lengths[0])],
            at_most=1.3,
        )


if __name__ == "__main__":
    small, table = quick(__doc__), Table()
    torch.manual_seed(0)
    selective(table, time=1024 if small else 4096, dim=128 if small else 512)
    diagonal(table, time=1024 if small else 4096)
    mixers: list[Mixer] = [Diagonal(64), Selective(32), LSSL(8, slots=16)]
    streaming(table, mixers, lengths=(1000, 30_000) if small else (1000, 30_000, 1_000_000))
    table.show()
