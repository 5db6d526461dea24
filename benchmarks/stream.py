"""A live stream: one step's latency and the bytes of state after 1k, 10k, 100k and 1M tokens, for every bounded mixer.

python benchmarks/stream.py [--quick]        # quick: up to 10k tokens

A mixer that claims a bounded state must show it: the ratio of the last step to the first is printed beside the goal.
"""

import sys
import time
from statistics import median

import torch

from attime.attention.contract import Mixer
from attime.models.recipe import mixers

DIM, CHUNK, GOAL = 64, 1000, 1.25


def step_us(mixer: Mixer, state: object) -> float:
    """Median microseconds of CPU time of one token."""
    x, times = torch.randn(1, 1, DIM), []
    for _ in range(101):
        start = time.thread_time_ns()
        mixer(x, state)  # type: ignore[arg-type]
        times.append(time.thread_time_ns() - start)
    return median(times[10:]) / 1e3


@torch.inference_mode()
def main(*, quick: bool) -> None:
    torch.set_num_threads(1)
    pasts = [1000, 10_000] if quick else [1000, 10_000, 100_000, 1_000_000]
    print(f"dim {DIM}, one thread, CPU time\n{'mixer':22}{'':14}" + "".join(f"{past:>12,}" for past in pasts))
    for name, kind in sorted(mixers().items()):
        if not kind.traits.bounded:
            continue
        torch.manual_seed(0)
        mixer, state, seen = kind(DIM).eval(), None, 0
        times, sizes = [], []
        for past in pasts:
            while seen < past:
                _, state = mixer(torch.randn(1, CHUNK, DIM), state)
                seen += CHUNK
            times.append(step_us(mixer, state))
            assert state is not None
            sizes.append(state.nbytes)
        print(f"{name:22}{'step, us':14}" + "".join(f"{each:12.0f}" for each in times), end="")
        ratio = times[-1] / times[0]
        print(f"   last / first {ratio:.2f} (goal <= {GOAL}: {'met' if ratio <= GOAL else 'MISSED'})")
        print(f"{'':22}{'state, bytes':14}" + "".join(f"{each:12,}" for each in sizes), end="")
        print(f"   {'flat' if len(set(sizes)) == 1 else 'GREW'}")


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
