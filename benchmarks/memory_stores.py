"""Entries in four bits and entries on disk: bytes, decode and error against DynamicCache, quanto and a window; see `memory.py`.

The error is compared with quanto's where optimum-quanto is installed (pip install --no-deps optimum-quanto ninja).
"""

import json
import statistics
import tempfile
import time
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import QuantizedCache

from attime import zoo
from attime.hub import attach
from attime.memory import Policy, chain
from attime.memory.quantize import Quantize
from attime.memory.retrieve import OnDisk, Retrieve
from memory_llama import decoding, filled, model
from timing import Table, medians

__all__ = ["error", "on_disk", "quantized"]


def quantized(table: Table, length: int) -> None:
    """Goal 8."""
    plain, llama, token = model(), model(), torch.zeros(1, 1, dtype=torch.long)
    with attach(llama, chain(Quantize(bits=4))) as attached:
        theirs, ours = filled(plain, DynamicCache(), length), filled(llama, attached.cache(), length)
        times: dict[str, list[float]] = {"theirs": [], "ours": []}
        for _ in range(130):
            for name, each, cache in (("theirs", plain, theirs), ("ours", llama, ours)):
                start = time.thread_time()
                each(token, past_key_values=cache)
                times[name].append(time.thread_time() - start)
        held = sum(layer.keys.nbytes + layer.values.nbytes for layer in theirs.layers)
    median = {name: statistics.median(each) for name, each in times.items()}
    table.ratio(f"4 bits, decode at {length}: / DynamicCache", median["ours"] / median["theirs"], at_most=1.1)
    table.ratio("  bytes / exact", ours.nbytes / held, at_most=0.20)
    table.ratio("  slowest step / median", max(times["ours"][5:]) / median["ours"], at_most=2.0)


def error(table: Table) -> None:
    """Goal 8, its last part: how far the logits of a trained model are from those of exact keys and values."""
    llama: Any = zoo.load("bytes").model
    ids = torch.tensor(list(Path(json.__file__).read_bytes()[:576]))[None]

    def logits(cache: Any) -> torch.Tensor:
        for part in ids[:, :512].split(128, dim=1):
            llama(part, past_key_values=cache)
        return torch.cat([llama(each, past_key_values=cache).logits for each in ids[:, 512:].split(1, dim=1)], dim=1)

    right = logits(DynamicCache())
    with attach(llama, chain(Quantize(bits=4, sinks=0, recent=32))) as attached:
        ours = _apart(logits(attached.cache()), right)
    table.ratio("4 bits, trained model: rms error of logits / their deviation", ours)
    if find_spec("optimum") is not None:
        theirs = _apart(
            logits(QuantizedCache(backend="quanto", config=llama.config, nbits=4, residual_length=64)), right
        )
        table.ratio("  / quanto's", ours / theirs, at_most=1.0)


def _apart(logits: torch.Tensor, right: torch.Tensor) -> float:
    return float((logits - right).square().mean().sqrt() / right.std())


def on_disk(table: Table, length: int, window: Policy) -> None:
    """Goal 9, in blocks as long as InfLLM's, and in others; the text is read in without any choice, which is slow."""
    other, common = model(), partial(Retrieve, by="question")
    kinds = ((common(heads="shared", block=128), 1.5), (common(heads="shared"), None), (common(block=128), None))
    for kind, goal in kinds:
        llama, blocks = model(), 1024 // kind.block
        with tempfile.TemporaryDirectory() as folder:
            retrieve = replace(kind, blocks=blocks, where=OnDisk(path=folder))
            with attach(llama, retrieve) as one, attach(other, window) as two:
                parked = filled(llama, one.cache(), length)
                for bank in (bank for layer in parked.memory for _, past in layer.pasts for bank in past.banks):
                    assert bank.parked is not None
                    bank.parked.choosing = replace(bank.parked.choosing, by="token")
                runs = {"disk": decoding(llama, parked), "window": decoding(other, filled(other, two.cache(), 4096))}
                seconds = medians(runs, rounds=9)
                share, what = seconds["disk"] / seconds["window"], f"1k of {length} from disk, {kind.heads} choice"
                table.ratio(f"{what} of {blocks} blocks, decode: / window", share, at_most=goal)
                whole = length * 4 * 2 * 256 * 4
                inside = parked.nbytes - 4 * 2 * 1024 * 256 * 4
                table.ratio("  resident beside the window / all keys and values", inside / whole, at_most=1 / 32)
