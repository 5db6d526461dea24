"""Windows, block lists, full softmax and decoding, against PyTorch's own attention: ratios in one process, one thread.

    python benchmarks/windows.py [--quick]

Shape: batch 1, 8 heads of 64 channels, causal. Goals stand beside each line; see benchmarks/timing.py for how it is timed.
"""

from timing import Table, forward_backward, medians, quick  # first: it sets the number of threads

# isort: split
import time
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from attime.attention import Mixer, spans
from attime.attention.heads import join_heads, split_heads
from attime.attention.kernels.blocks import attend_blocks
from attime.attention.softmax import Softmax
from attime.attention.sparse import SlidingWindow

HEADS, HEAD_DIM = 8, 64
DIM = HEADS * HEAD_DIM
# (window, dtype): goal for forward and for forward and backward at 16k tokens
GOALS = {
    (128, torch.float32): (15.0, 10.0),
    (128, torch.bfloat16): (9.0, 8.0),
    (512, torch.float32): (7.0, 5.5),
    (512, torch.bfloat16): (5.0, 4.5),
}


def main(small: bool) -> Table:
    table = Table()
    windows(table, (1024,) if small else (4096, 16384), 1 if small else 3)
    lists(table)
    full(table, 512 if small else 4096)
    decode(table, (1_000, 8_000) if small else (1_000, 10_000, 100_000, 1_000_000))
    table.show()
    return table


def windows(table: Table, lengths: tuple[int, ...], rounds: int) -> None:
    """A window through the block list against dense causal attention."""
    for length in lengths:
        for dtype in (torch.float32, torch.bfloat16):
            qkv = [torch.randn(1, HEADS, length, HEAD_DIM, dtype=dtype) for _ in range(3)]
            blocks = {window: spans.Window(window).blocks(length) for window in (128, 512)}
            runs = {"dense": dense} | {
                str(window): partial(attend_blocks, blocks=each) for window, each in blocks.items()
            }
            with torch.no_grad():
                forward = medians({name: partial(run, *qkv) for name, run in runs.items()}, rounds=rounds)
            both = medians({name: forward_backward(run, *qkv) for name, run in runs.items()}, rounds=rounds)
            for window in blocks:
                name = f"window {window} at {length}, {dtype}".replace("torch.", "")
                goals = GOALS[window, dtype] if length == 16384 else (None, None)
                table.ratio(f"{name}, forward: x dense", forward["dense"] / forward[str(window)], at_least=goals[0])
                table.ratio(f"{name}, with backward: x dense", both["dense"] / both[str(window)], at_least=goals[1])


def dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def lists(table: Table, length: int = 65536) -> None:
    """Milliseconds to write down the block list of 64k tokens, and its size."""
    causal = spans.Causal()
    every = {
        "causal": causal,
        "window": spans.Window(512),
        "window + sinks": (spans.Window(512) | spans.Sinks(4)) & causal,
        "dilated": spans.Dilated(64, 16),
        "strided, 8 heads": spans.Strided(HEADS),
        "documents": spans.Documents((1000, 3000, 12, 500) * 20) & causal,
        "prefix": causal | spans.Prefix(1000),
        "frame-causal": spans.FrameCausal(256),
        "neighbourhood 1-D": spans.Neighbourhood((length,), (129,)),
        "neighbourhood 2-D": spans.Neighbourhood((256, 256), (7, 7)),
        "neighbourhood 3-D": spans.Neighbourhood((64, 32, 32), (3, 7, 7), None, (True, False, False)),
        "radial": spans.Radial(64, 1024),
    }
    query = torch.arange(length)
    for size, goal in ((128, 10), (64, None)):  # FlexAttention's blocks; the CPU's, four times as many
        for name, span in every.items():
            listed = partial(span.blocks_at, query, query, size=size)
            found, seconds = listed(), medians({name: listed}, rounds=3)[name]
            held = found.some.untyped_storage().nbytes() + found.every.untyped_storage().nbytes()
            table.ratio(f"list of 64k tokens, blocks of {size}, {name}: ms", 1e3 * seconds, at_most=goal)
            table.ratio(f"list of 64k tokens, blocks of {size}, {name}: MB", held / 1e6, at_most=goal)
    found = every["window"].blocks_at(query, query)
    start = time.thread_time()
    rows = len(found.rows[0])
    table.note(
        f"the window's list spelled out for the CPU, once: {1e3 * (time.thread_time() - start):.0f} ms, {rows} rows"
    )


def full(table: Table, length: int) -> None:
    """Our full softmax against the same projections around PyTorch's attention."""
    for rope in (False, True):
        mixer = Softmax(DIM, heads=HEADS, rope=rope)
        for dtype in (torch.float32, torch.bfloat16):
            mixer, x = mixer.to(dtype), torch.randn(1, length, DIM, dtype=dtype)

            def ours(x: Tensor, mixer: Mixer = mixer) -> Tensor:
                return mixer(x)[0]

            def plain(x: Tensor, mixer: Softmax = mixer) -> Tensor:
                q, (k, v) = mixer.queries(x), mixer.keys_values(x).chunk(2, -1)
                return mixer.output(join_heads(dense(*(split_heads(each, HEADS) for each in (q, k, v)))))

            name = f"softmax at {length}, rope={rope}, {dtype}".replace("torch.", "")
            with torch.no_grad():
                seconds = medians({"ours": lambda: ours(x), "plain": lambda: plain(x)}, rounds=7)  # noqa: B023
            goal = None if rope else 1.05
            table.ratio(f"{name}, forward: time / plain", seconds["ours"] / seconds["plain"], at_most=goal)
            seconds = medians({"ours": forward_backward(ours, x), "plain": forward_backward(plain, x)}, rounds=5)
            table.ratio(f"{name}, with backward: time / plain", seconds["ours"] / seconds["plain"], at_most=goal)


@torch.no_grad()
def decode(table: Table, lengths: tuple[int, ...]) -> None:
    """One more token after a long past: a window's step and state must not grow."""
    for sinks in (0, 4):
        mixer = SlidingWindow(DIM, heads=HEADS, window=512, sinks=sinks)
        micro, held = stream(mixer, lengths)
        for length in lengths:
            table.note(
                f"window 512, sinks {sinks}: step after {length:>9,}: {micro[length]:.0f} us, {held[length]:,} bytes"
            )
        steps = [micro[length] for length in lengths]
        table.ratio(f"window 512, sinks {sinks}: longest step / first", max(steps) / steps[0], at_most=1.2)
        table.ratio(
            f"window 512, sinks {sinks}: bytes held, last / first", held[lengths[-1]] / held[lengths[0]], at_most=1
        )
    mixer = Softmax(DIM, heads=HEADS)
    grown = tuple(each for each in lengths if each <= 20_000)
    micro, held = stream(mixer, grown)
    k, v = torch.randn(2, 1, HEADS, grown[-1], HEAD_DIM)
    raw = medians({"raw": lambda: F.scaled_dot_product_attention(k[:, :, -1:], k, v)}, rounds=9)["raw"]
    for length in grown:
        table.note(f"softmax: step after {length:>9,}: {micro[length]:.0f} us, {held[length]:,} bytes")
    table.ratio(f"softmax: step after {grown[-1]:,} / attention alone", micro[grown[-1]] / (1e6 * raw))


def stream(mixer: Mixer, lengths: tuple[int, ...], *, steps: int = 64) -> tuple[dict[int, float], dict[int, int]]:
    """Microseconds of a step (median of `steps`, projections included) and bytes of state after each length."""
    state, seen, micro, held = None, 0, {}, {}
    token = torch.randn(1, 1, mixer.dim)
    for length in lengths:
        while seen < length - steps:
            count = min(4096, length - steps - seen)
            _, state = mixer(torch.randn(1, count, mixer.dim), state)
            seen += count
        spent = []
        for _ in range(steps):
            start = time.thread_time()
            _, state = mixer(token, state)
            spent.append(time.thread_time() - start)
        seen += steps
        assert state is not None
        micro[length], held[length] = 1e6 * sorted(spent)[steps // 2], state.nbytes
    return micro, held


if __name__ == "__main__":
    main(quick(__doc__))
