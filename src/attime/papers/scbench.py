"""SCBench: what a key-value cache is worth is seen at the second question about the same context.

Claim:   methods that keep less than the whole past look fine at the first question and fail at those that follow in the
         same conversation; a memory that grows with the context, even a coarse one, does not.
Parts:   tasks.SharedContext, tasks.sessions (both modes), tasks.CachedReader, zoo.load("recall")
Proof:   the zoo's recall model reads keys and values and answers `turns` questions in one conversation. With a quarter of
         the cache, chosen by the attention of the first question (the same bytes as four bits for each number), it must
         be as good at the first turn (at least 0.9) and at least 30 points worse later; whole, or at 8 or 4 bits, it must
         have at least 0.95 and lose less than 5 points after the first turn. As separate requests, where nobody has asked
         when the cache is cut, eviction must lose at the first question too. Oracle 1 in all three kinds of context;
         control: without the context the model must be within 5 points of chance.
Differs: two layers and tokens instead of 8 billion parameters and text; key-value retrieval by the model, prefix-suffix
         and variables by the oracle alone, since the model was never taught them. No sparse prefill. Numbers are rounded
         to a grid of 2^bits steps (keys by channel, values by token) and kept as floats: bytes are counted, not saved.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attime import zoo
from attime.papers.card import Paper, Verdict
from attime.tasks.cached_reader import CachedReader, Compress, LayerCache
from attime.tasks.sessions import Session
from attime.tasks.shared_context import SharedContext

PAPER = Paper(
    number=165,
    title="SCBench: A KV Cache-Centric Analysis of Long-Context Methods",
    url="https://arxiv.org/abs/2412.10319",
    parts=(SharedContext, Session, CachedReader),
)
FULL = {"sessions": 400}


def run(*, sessions: int = 40, facts: int = 16, turns: int = 5, model: str = "recall", seed: int = 0) -> Verdict:
    """Play the same sessions with the whole cache, a coarse one and a short one, in both modes."""
    task = SharedContext(symbols="tokens", facts=facts, turns=turns, sessions=sessions)
    asked = task.items(seed=seed)
    network: Any = zoo.load(model).model
    kept: dict[str, Compress | None] = {"whole": None, "int8": _coarse(8), "int4": _coarse(4), "evicted": _short(4)}
    numbers: dict[str, float] = {"chance": task.chance()["accuracy"]}
    for mode in ("multi-turn", "multi-request"):
        for name, compress in kept.items():
            found = task.grade(asked, CachedReader(network, compress=compress), mode=mode)
            numbers[f"{name}, {mode}, turn 1"] = found["turn 1"]
            numbers[f"{name}, {mode}, later"] = float(np.mean([found[f"turn {each}"] for each in range(2, turns + 1)]))
    blind = task.grade([replace(session, context=()) for session in asked], CachedReader(network))
    kinds = [
        replace(task, kind=kind, symbols="characters", facts=48) for kind in ("key-value", "prefix-suffix", "variables")
    ]
    oracles = [each.score(each.oracle(), mode=mode) for each in kinds for mode in ("multi-turn", "multi-request")]
    numbers |= {"no context": blind["accuracy"], "oracle, worst": min(min(each.values()) for each in oracles)}

    def lost(name: str) -> float:
        return numbers[f"{name}, multi-turn, turn 1"] - numbers[f"{name}, multi-turn, later"]

    whole = all(
        numbers[f"{name}, multi-turn, turn 1"] >= 0.95 and lost(name) < 0.05 for name in ("whole", "int8", "int4")
    )
    short = numbers["evicted, multi-turn, turn 1"] >= 0.9 and lost("evicted") >= 0.3
    asks = numbers["evicted, multi-request, turn 1"] <= numbers["evicted, multi-turn, turn 1"] - 0.3
    floors = numbers["oracle, worst"] == 1 and numbers["no context"] <= numbers["chance"] + 0.05
    holds = whole and short and asks and floors
    return Verdict(holds=holds, numbers=numbers, reason="" if holds else f"{whole=}, {short=}, {asks=}, {floors=}")


def _short(part: int) -> Compress:
    """Of each head the entries that the last query attended to most, one of `part`."""

    def compress(layer: LayerCache) -> tuple[Tensor, Tensor]:
        heads, time, dim = layer.keys.shape[1:]
        rates = layer.attention[:, :, -1].unflatten(1, (heads, -1)).mean(2)
        best = rates.topk(max(1, time // part)).indices.sort().values[..., None].expand(-1, -1, -1, dim)
        return layer.keys.gather(2, best), layer.values.gather(2, best)

    return compress


def _coarse(bits: int) -> Compress:
    """Numbers rounded to 2^bits steps between the least and the largest: of a channel of keys, of a token of values."""

    def rounded(x: Tensor, axis: int) -> Tensor:
        least, most = x.amin(axis, keepdim=True), x.amax(axis, keepdim=True)
        step = ((most - least) / (2**bits - 1)).clamp(min=1e-9)
        return torch.round((x - least) / step) * step + least

    return lambda layer: (rounded(layer.keys, 2), rounded(layer.values, 3))
