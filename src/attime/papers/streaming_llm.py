"""StreamingLLM: a few first tokens and a window are enough to read forever.

Claim:   a language model reads millions of tokens in constant memory if it keeps its first tokens, the attention sinks, with
         the latest ones, and counts positions inside the memory; a window alone breaks when the first tokens leave it.
Parts:   memory.evict.SinkWindow, memory.place.Contiguous, hub.attach
Proof:   the zoo's byte model, trained at 256 bytes, reads a text many times as long. Far from the start, with sinks and window
         it loses at most 5 % of perplexity against windows of the training length and holds as many bytes as after the first
         windows, where keeping everything at least doubles the perplexity.
Differs: that a window alone breaks is not seen at this scale: a byte model of 3 M parameters, trained on windows that begin
         anywhere, has made no sink of its first token, and the window alone predicts as well (its number is shown). The
         window moves on in steps, see SinkWindow.
"""

from itertools import pairwise

import numpy as np
import torch

from attime.hub import attach
from attime.hub.stream import stream
from attime.memory import Chain, chain
from attime.memory.evict import SinkWindow
from attime.memory.place import Contiguous
from attime.papers.card import Paper, Verdict
from attime.streams.text import standard_library
from attime.zoo import load

PAPER = Paper(
    number=210,
    title="Efficient Streaming Language Models with Attention Sinks",
    url="https://arxiv.org/abs/2309.17453",
    parts=(SinkWindow, Contiguous, attach),
)
FULL = {"times": 64}


def run(*, times: int = 16, sinks: int = 4, every: int = 32, seed: int = 0) -> Verdict:
    """Perplexity over the second half of `times` training lengths, with different memories of one training length."""
    made = load("bytes")
    length = int(made.model.config.max_position_embeddings)  # pyright: ignore
    held_out = standard_library().test
    start = int(np.random.default_rng(seed).integers(len(held_out) - times * length))
    text = torch.from_numpy(held_out[start : start + times * length].copy()).long()
    memories = {
        "sinks and window": chain(SinkWindow(sinks=sinks, window=length - sinks, every=every), Contiguous()),
        "window": chain(SinkWindow(sinks=0, window=length, every=every), Contiguous()),
        "everything": chain(),
    }
    found = {name: _far(made.model, memory, text, length) for name, memory in memories.items()}
    with torch.inference_mode(), attach(made.model, memories["everything"]) as attached:  # pyright: ignore
        short = [list(stream(attached, [piece]))[-1].nats for piece in text[len(text) // 2 :].split(length)]
    trained = float(np.exp(np.mean(short)))
    numbers = {"perplexity, training length": trained}
    numbers |= {f"perplexity, {name}": float(np.exp(nats)) for name, (nats, _) in found.items()}
    numbers["bytes held, last over first"] = found["sinks and window"][1]
    ours = numbers["perplexity, sinks and window"]
    flat = found["sinks and window"][1] <= 1.0 and ours <= 1.05 * trained
    others_break = numbers["perplexity, everything"] >= 2 * ours
    holds = flat and others_break
    return Verdict(holds=holds, numbers=numbers, reason="" if holds else f"{flat=}, {others_break=}")


def _far(model: torch.nn.Module, memory: Chain, text: torch.Tensor, length: int) -> tuple[float, float]:
    """Nats per byte in the second half of the text, and bytes held at the end over those after two training lengths."""
    with torch.inference_mode(), attach(model, memory) as attached:  # pyright: ignore[reportArgumentType]
        steps = list(stream(attached, text.split(length)))
    half = len(steps) // 2
    assert all(before.tokens < after.tokens for before, after in pairwise(steps))
    return sum(step.recent_nats for step in steps[half:]) / (len(steps) - half), steps[-1].nbytes / steps[1].nbytes
