"""Memory policies in a tiny Llama (4 layers, 256 channels, 8 heads): decode, prefill and bytes against transformers and kvpress.

python benchmarks/memory.py [--quick] [--kvpress PYTHON] [--only WORD ...]

quick: contexts up to 8k. kvpress needs an older transformers, so it runs in an environment of its own (the interpreter of one
that has it: python -m venv press; press/bin/pip install kvpress==0.5.5); without it its lines are left out. Every ratio is of
CPU time in one run, against DynamicCache, the library's sliding-window layer or no policy; the goal is beside it.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from attime.hub import attach
from attime.memory import Chain, Policy, chain
from attime.memory.evict import (
    Adaptive,
    Evict,
    KeyNorm,
    LastQuery,
    ObservedWindow,
    PerHead,
    Received,
    Recency,
    SinkWindow,
)
from attime.memory.place import Contiguous
from attime.memory.quantize import Quantize
from attime.memory.retrieve import OnDisk, Retrieve
from timing import Table, medians

PART = 512  # tokens of a chunk in prefill
STEPS = 16
WINDOW = chain(SinkWindow(sinks=4, window=1020), Contiguous())
HERE = Path(__file__).parent


def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256, hidden_size=256, intermediate_size=688, num_hidden_layers=4, num_attention_heads=8,
        max_position_embeddings=1 << 17,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def text(length: int) -> torch.Tensor:
    return torch.randint(0, 256, (1, length), generator=torch.Generator().manual_seed(1))


def filled(llama: LlamaForCausalLM, cache: Any, length: int) -> Any:
    for part in text(length).split(PART, dim=1):
        llama(part, past_key_values=cache, logits_to_keep=1)
    return cache


def decoding(llama: LlamaForCausalLM, cache: Any, *, steps: int = STEPS) -> Callable[[], None]:
    """Some more tokens on the cache, which goes on growing."""
    token = torch.randint(0, 256, (1, 1))

    def run() -> None:
        for _ in range(steps):
            llama(token, past_key_values=cache)

    return run


def halves(length: int) -> Chain:
    """Half of every layer's heads keep everything, the others a sixty-fourth of it."""
    heads = tuple((layer, head) for layer in range(4) for head in range(0, 8, 2))
    budget = PerHead(heads=heads, others=max(128, length // 64))
    return chain(Evict(score=Recency(), budget=budget, recent=64, every=64))


def exact(table: Table) -> None:
    """Goal 1: one pass, chunks and single steps give the same logits."""
    observed = Evict(score=ObservedWindow(window=32), budget=160, recent=32, every=32)
    policies = {"window": WINDOW, "observed": chain(observed, Contiguous()), "halves": halves(200)}
    policies["quantized"] = chain(
        SinkWindow(sinks=4, window=252, every=64), Quantize(recent=32, every=32), Contiguous()
    )
    llama, ids, worst = model(), text(1300), 0.0
    for policy in policies.values():
        with attach(llama, policy) as attached:
            whole = llama(ids).logits
            for chunk in (37, 64):
                cache = attached.cache()
                parts = [llama(part, past_key_values=cache).logits for part in ids.split(chunk, dim=1)]
                worst = max(worst, float((torch.cat(parts, dim=1) - whole).abs().max()))
    table.ratio("one pass = chunks of 37 and 64: largest difference", worst, at_most=1e-5)


def full_cache(table: Table, lengths: list[int]) -> None:
    """Goal 2."""
    ours, theirs = model(), model()
    goals = {1024: 1.0, 16384: 0.45, 32768: 0.30}
    with attach(ours) as attached:
        for length in lengths:
            runs = {
                "theirs": decoding(theirs, filled(theirs, DynamicCache(), length)),
                "ours": decoding(ours, filled(ours, attached.cache(), length)),
            }
            seconds = medians(runs, rounds=3)
            share = seconds["ours"] / seconds["theirs"]
            table.ratio(f"full cache, decode at {length}: / DynamicCache", share, at_most=goals.get(length))


def sink_window(table: Table, lengths: list[int]) -> None:
    """Goal 3."""
    sliding = model()
    sliding.config.layer_types = ["sliding_attention"] * 4
    sliding.config.sliding_window = 1024
    llama, dynamic, flat = model(), model(), {}
    with attach(llama, WINDOW) as attached:
        for length in lengths:
            runs = {
                "theirs": decoding(sliding, filled(sliding, DynamicCache(config=sliding.config), length)),
                "ours": decoding(llama, filled(llama, attached.cache(), length)),
            }
            if length == 32768:
                runs["dynamic"] = decoding(dynamic, filled(dynamic, DynamicCache(), length))
            seconds = medians(runs, rounds=5)
            flat[length] = seconds["ours"]
            share = seconds["ours"] / seconds["theirs"]
            table.ratio(f"sinks + window, decode at {length}: / sliding layer", share, at_most=0.85)
            if "dynamic" in seconds:
                far = seconds["ours"] / seconds["dynamic"]
                table.ratio(f"sinks + window, decode at {length}: / DynamicCache", far, at_most=1 / 30)
    uneven = max(flat.values()) / min(flat.values())
    table.ratio("sinks + window, decode: slowest / fastest length", uneven, at_most=1.15)


def per_head(table: Table, length: int, peer: dict[str, float]) -> None:
    """Goals 4 and 13: half of the entries, in heads that differ."""
    whole, half, plain = model(), model(), model()
    with attach(whole) as full, attach(half, halves(length)) as ragged:
        all_kept, some = filled(whole, full.cache(), length), filled(half, ragged.cache(), length)
        book = some.ledger()
        table.ratio(f"per-head halves at {length}: bytes / full", some.nbytes / all_kept.nbytes, at_most=0.52)
        table.ratio(
            "  bytes / what its share of entries comes to", some.nbytes / all_kept.nbytes / book.share, at_most=1.02
        )
        runs = {"full": decoding(whole, all_kept), "half": decoding(half, some)}
        runs["none"] = decoding(plain, filled(plain, DynamicCache(), length))
        seconds = medians(runs, rounds=5)
    table.ratio(f"per-head halves, decode at {length}: / full", seconds["half"] / seconds["full"])
    share = seconds["half"] / seconds["none"]
    table.ratio(f"per-head halves, decode at {length}: / DynamicCache", share, at_most=0.45)
    if "adakv decode / none" in peer:
        table.ratio("  / kvpress AdaKV over its own none", share / peer["adakv decode / none"], at_most=0.3)


def prefill(table: Table, length: int) -> None:
    """Goals 5 (time) and 6."""
    evict = partial(Evict, budget=1024, every=128)
    policies: dict[str, tuple[Policy, float]] = {
        "everything kept": (chain(), 1.1),
        "sinks + window": (WINDOW, 1.1),
        "KeyNorm": (evict(score=KeyNorm()), 1.1),
        "LastQuery": (evict(score=LastQuery()), 1.1),
        "KeyNorm, per head": (evict(score=KeyNorm(), budget=Adaptive(entries=1024)), 1.1),
        "ObservedWindow": (evict(score=ObservedWindow()), 1.5),
        "Received": (evict(score=Received()), 1.5),
    }
    llama, plain, ids = model(), model(), text(length)

    def run(policy: Policy) -> Callable[[], None]:
        def once() -> None:
            with attach(llama, policy) as attached:
                filled(llama, attached.cache(), length)

        return once

    runs: dict[str, Callable[[], object]] = {"none": lambda: plain(ids, logits_to_keep=1)}
    seconds = medians(runs | {name: run(policy) for name, (policy, _) in policies.items()}, rounds=3)
    for name, (_, goal) in policies.items():
        share = seconds[name] / seconds["none"]
        table.ratio(f"prefill of {length} with {name}: / one pass without", share, at_most=goal)


def every_token(table: Table) -> None:
    """Goal 7: a policy that acts at every token."""
    llama, still = model(), model()
    with attach(llama, chain(SinkWindow(sinks=4, window=1020, every=1), Contiguous())) as one, attach(still) as two:
        runs = {
            "each": decoding(llama, filled(llama, one.cache(), 1536), steps=64),
            "static": decoding(still, filled(still, two.cache(), 1024 - 32), steps=64),
        }
        seconds = medians(runs, rounds=1)
    table.ratio("eviction at every token: / a cache of that size", seconds["each"] / seconds["static"], at_most=1.25)


def quantized(table: Table, length: int) -> None:
    """Goal 8."""
    plain, llama, token = model(), model(), torch.zeros(1, 1, dtype=torch.long)
    with attach(llama, chain(Quantize(bits=4))) as attached:
        theirs, ours = filled(plain, DynamicCache(), length), filled(llama, attached.cache(), length)
        times: dict[str, list[float]] = {"theirs": [], "ours": []}
        logits: dict[str, torch.Tensor] = {}
        for _ in range(130):
            for name, each, cache in (("theirs", plain, theirs), ("ours", llama, ours)):
                start = time.thread_time()
                logits[name] = each(token, past_key_values=cache).logits
                times[name].append(time.thread_time() - start)
        right = logits["theirs"]
        error = float((logits["ours"] - right).square().mean().sqrt() / right.std())
        held = sum(layer.keys.nbytes + layer.values.nbytes for layer in theirs.layers)
    median = {name: statistics.median(each) for name, each in times.items()}
    table.ratio(f"4 bits, decode at {length}: / DynamicCache", median["ours"] / median["theirs"], at_most=1.1)
    table.ratio("  bytes / exact", ours.nbytes / held, at_most=0.20)
    table.ratio("  slowest step / median", max(times["ours"][5:]) / median["ours"], at_most=2.0)
    table.ratio("  rms error of logits / their deviation", error, at_most=0.0038 / 0.32)


def on_disk(table: Table, length: int) -> None:
    """Goal 9."""
    llama, other = model(), model()
    with tempfile.TemporaryDirectory() as folder:
        retrieve = Retrieve(sinks=4, window=1020, blocks=16, block=64, where=OnDisk(path=folder))
        with attach(llama, retrieve) as one, attach(other, WINDOW) as two:
            parked = filled(llama, one.cache(), length)
            seconds = medians(
                {"disk": decoding(llama, parked), "window": decoding(other, filled(other, two.cache(), 4096))}, rounds=5
            )
            share = seconds["disk"] / seconds["window"]
            table.ratio(f"1k of {length} tokens from disk, decode: / window", share, at_most=1.5)
            whole = length * 4 * 2 * 256 * 4
            inside = parked.nbytes - 4 * 2 * 1024 * 256 * 4
            table.ratio("  resident beside the window / all keys and values", inside / whole, at_most=1 / 32)


def turns(table: Table) -> None:
    """Goal 10: tokens that the second turn feeds, over those that are new."""
    llama, fed = model(), list[int]()
    with attach(llama, WINDOW) as attached:
        cache, options = attached.cache(), dict(max_new_tokens=4, do_sample=False, pad_token_id=0, eos_token_id=None)
        first = llama.generate(text(300), past_key_values=cache, **options)  # pyright: ignore
        again = torch.cat([first, text(20)], dim=1)
        hook = llama.register_forward_pre_hook(lambda m, a, kw: fed.append(kw["input_ids"].shape[1]), with_kwargs=True)
        llama.generate(again, past_key_values=cache, **options)  # pyright: ignore
        hook.remove()
    table.ratio("second turn: tokens fed / tokens new", fed[0] / 21, at_most=1.0)


def peaks(table: Table, lengths: list[int], peer: dict[str, float]) -> None:
    """Goal 5 (memory): the prefill's peak above the loaded model, each in a fresh process."""
    found = {length: json.loads(_output(sys.executable, "memory_peak.py", str(length)))["peak"] for length in lengths}
    for length in lengths[1:]:
        table.ratio(f"prefill's peak at {length} / at {lengths[0]}", found[length] / found[lengths[0]], at_most=1.2)
    for length in lengths:
        if f"peak at {length}" in peer:
            table.ratio(
                f"prefill's peak at {length}: / kvpress", found[length] / peer[f"peak at {length}"], at_most=0.35
            )


def _output(python: str, script: str, *arguments: str) -> str:
    made = subprocess.run([python, str(HERE / script), *arguments], capture_output=True, text=True, check=True)
    return made.stdout.splitlines()[-1]


@torch.inference_mode()
def main(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    table, small = Table(), options.quick
    lengths = [1024, 2048, 8192] if small else [1024, 2048, 4096, 8192, 16384, 32768]
    peer = (
        {} if options.kvpress is None else json.loads(_output(options.kvpress, "memory_kvpress.py", str(lengths[-1])))
    )
    for name, value in peer.items():
        table.note(f"kvpress: {name:<43} {value:>10.3g}")
    parts: dict[str, Callable[[], None]] = {
        "exact": lambda: exact(table),
        "full": lambda: full_cache(table, lengths),
        "window": lambda: sink_window(table, lengths[1:]),
        "head": lambda: per_head(table, 8192, peer),
        "prefill": lambda: prefill(table, 2048 if small else 8192),
        "token": lambda: every_token(table),
        "bits": lambda: quantized(table, 4096),
        "disk": lambda: on_disk(table, 16384 if small else 131072),
        "turns": lambda: turns(table),
        "peak": lambda: peaks(table, [4096, 8192] if small else [16384, 32768, 65536], peer),
    }
    for name, run in parts.items():
        if not options.only or name in options.only:
            run()
    table.show()


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--quick", action="store_true", help="contexts up to 8k")
    words.add_argument("--kvpress", metavar="PYTHON", help="the interpreter of an environment with kvpress 0.5.5")
    words.add_argument(
        "--only", nargs="+", metavar="WORD", help="exact full window head prefill token bits disk turns peak"
    )
    main(words.parse_args())
