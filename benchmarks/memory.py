"""Memory policies in a tiny Llama (4 layers, 256 channels, 8 heads): decode, prefill and bytes against transformers' caches.

python benchmarks/memory.py [--quick]        # quick: contexts up to 8k

Every ratio is of CPU time in one run, against DynamicCache or the library's sliding-window layer; the goal is beside it.
"""

import copy
from collections.abc import Callable

import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from attime.hub import attach
from attime.memory import Policy, chain
from attime.memory.evict import SinkWindow
from attime.memory.place import Contiguous
from timing import Table, medians, quick

PART = 512  # tokens of a chunk in prefill
STEPS = 16


def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256, hidden_size=256, intermediate_size=688, num_hidden_layers=4, num_attention_heads=8,
        max_position_embeddings=1 << 17,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def filled(llama: LlamaForCausalLM, cache: object, length: int) -> object:
    ids = torch.randint(0, 256, (1, length), generator=torch.Generator().manual_seed(1))
    for part in ids.split(PART, dim=1):
        llama(part, past_key_values=cache, logits_to_keep=1)
    return cache


def decoding(llama: LlamaForCausalLM, cache: object) -> Callable[[], None]:
    """STEPS more tokens on the cache, which goes on growing."""
    token = torch.randint(0, 256, (1, 1))

    def run() -> None:
        for _ in range(STEPS):
            llama(token, past_key_values=cache)

    return run


@torch.inference_mode()
def full_cache(table: Table, lengths: list[int]) -> None:
    ours, theirs = model(), model()
    goals = {1024: 1.0, 16384: 0.45, 32768: 0.30}
    with attach(ours) as attached:
        for length in lengths:
            runs = {
                "theirs": decoding(theirs, filled(theirs, DynamicCache(), length)),
                "ours": decoding(ours, filled(ours, attached.cache(), length)),
            }
            seconds = medians(runs, rounds=3)
            table.ratio(
                f"full cache, decode at {length}: / DynamicCache",
                seconds["ours"] / seconds["theirs"],
                at_most=goals.get(length),
            )


@torch.inference_mode()
def sink_window(table: Table, lengths: list[int]) -> None:
    sliding = model()
    sliding.config.layer_types = ["sliding_attention"] * 4
    sliding.config.sliding_window = 1024
    llama, flat = model(), {}
    with attach(llama, chain(SinkWindow(sinks=4, window=1020), Contiguous())) as attached:
        for length in lengths:
            runs = {
                "theirs": decoding(sliding, filled(sliding, DynamicCache(config=sliding.config), length)),
                "ours": decoding(llama, filled(llama, attached.cache(), length)),
            }
            seconds = medians(runs, rounds=5)
            flat[length] = seconds["ours"]
            table.ratio(
                f"sinks + window, decode at {length}: / sliding layer",
                seconds["ours"] / seconds["theirs"],
                at_most=0.85,
            )
    table.ratio(
        "sinks + window, decode: slowest / fastest length", max(flat.values()) / min(flat.values()), at_most=1.15
    )


@torch.inference_mode()
def prefill(table: Table, length: int, policies: dict[str, tuple[Policy, float]]) -> None:
    llama = model()
    ids = torch.randint(0, 256, (1, length))

    def run(policy: Policy) -> Callable[[], None]:
        def once() -> None:
            with attach(llama, policy) as attached:
                filled(llama, attached.cache(), length)

        return once

    plain = model()
    runs = {"none": lambda: plain(ids, logits_to_keep=1)} | {
        name: run(policy) for name, (policy, _) in policies.items()
    }
    seconds = medians(runs, rounds=3)
    for name, (_, goal) in policies.items():
        table.ratio(
            f"prefill of {length} with {name}: / one pass without", seconds[name] / seconds["none"], at_most=goal
        )


def main(*, small: bool) -> None:
    table = Table()
    lengths = [1024, 2048, 8192] if small else [1024, 2048, 4096, 8192, 16384, 32768]
    full_cache(table, lengths)
    sink_window(table, lengths[1:])
    window = chain(SinkWindow(sinks=4, window=1020), Contiguous())
    prefill(
        table, 2048 if small else 8192, {"everything kept": (chain(), 1.1), "sinks + window": (copy.copy(window), 1.1)}
    )
    table.show()


if __name__ == "__main__":
    main(small=quick(__doc__))
