"""Memory policies in a tiny Llama (4 layers, 256 channels, 8 heads): decode, prefill and bytes against transformers and kvpress.

python benchmarks/memory.py [--quick] [--kvpress PYTHON] [--only WORD ...]

quick: contexts up to 8k. kvpress needs an older transformers, so it runs in an environment of its own (the interpreter of one
that has it: python -m venv press; press/bin/pip install kvpress==0.5.5); without it its lines are left out. Every ratio is of
CPU time in one run, against DynamicCache, the library's sliding-window layer or no policy; the goal is beside it.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from transformers import DynamicCache

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
from memory_llama import decoding, filled, model, text
from memory_stores import error, on_disk, quantized
from timing import Table, medians

WINDOW = chain(SinkWindow(sinks=4, window=1020), Contiguous())
HERE = Path(__file__).parent


def halves(length: int) -> Chain:
    """Half of every layer's heads keep everything, the others a sixty-fourth of it."""
    heads = tuple((layer, head) for layer in range(4) for head in range(0, 8, 2))
    budget = PerHead(heads=heads, others=max(160, length // 64))
    return chain(Evict(score=Recency(), budget=budget, recent=64, every=64))


def exact(table: Table) -> None:
    """Goal 1: one pass, chunks and single steps give the same logits; in float32 a code may fall on its edge's other side."""
    observed = Evict(score=ObservedWindow(window=32), budget=160, recent=32, every=32)
    kept: list[Policy] = [WINDOW, chain(observed, Contiguous()), halves(200)]
    coded: Policy = chain(SinkWindow(sinks=4, window=252, every=64), Quantize(recent=32, every=32), Contiguous())
    single, double = (
        "one pass = chunks of 37 and 64, float32: largest difference",
        "the same in float64, and with 4 bits",
    )
    table.ratio(single, max(_difference(each, torch.float32) for each in kept), at_most=1e-5)
    table.ratio("  with 4 bits", _difference(coded, torch.float32))
    table.ratio(double, max(_difference(each, torch.float64) for each in (*kept, coded)), at_most=1e-9)


def _difference(policy: Policy, dtype: torch.dtype) -> float:
    """Between the logits of one pass and those of chunks."""
    llama, ids, worst = model(), text(1300), 0.0
    if dtype == torch.float64:
        llama.double()
    with attach(llama, policy) as attached:
        whole = llama(ids).logits
        for chunk in (37, 64):
            cache = attached.cache()
            parts = [llama(part, past_key_values=cache).logits for part in ids.split(chunk, dim=1)]
            worst = max(worst, float((torch.cat(parts, dim=1) - whole).abs().max()))
    return worst


def full_cache(table: Table, lengths: list[int]) -> None:
    """Goal 2, each length in a fresh process."""
    goals = {1024: 1.0, 16384: 0.45, 32768: 0.30}
    for length in lengths:
        share = json.loads(_output(sys.executable, "memory_full.py", str(length)))["share"]
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
            seconds = medians(runs, rounds=25)
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
        "error": lambda: error(table),
        "disk": lambda: on_disk(table, 16384 if small else 131072, WINDOW),
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
        "--only", nargs="+", metavar="WORD", help="exact full window head prefill token bits error disk turns peak"
    )
    main(words.parse_args())
