"""StreamingLLM: a few first tokens and a window are enough to read forever.

Claim:   a language model reads millions of tokens in constant memory if it keeps its first tokens, the attention sinks, with
         the latest ones, and counts positions inside the memory; a window alone breaks when the first tokens leave it.
Parts:   memory.evict.SinkWindow, memory.place.Contiguous, hub.attach
Proof:   the zoo's byte model, trained at 256 bytes, reads a text many times as long. Far from the start, with sinks and window
         it loses at most 5 % of perplexity against windows of the training length and holds as many bytes as after the first
         windows, where keeping everything at least doubles the perplexity, and so must a window alone.
Differs: the last is not found at this scale: a byte model of 3 M parameters, trained on windows that begin anywhere, has made
         no sink of its first token, and the window alone predicts as well (perplexity 2.23 and 2.23, 2.16 and 2.16, 2.01
         and 2.01 at seeds 0 to 2; everything: 19 to 24). The paper's window alone goes up a thousandfold. All else holds.
         The window moves on in steps, see SinkWindow.
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
WAIVED = {
    "the_claim_holds": "the zoo's byte model has no sink: a window alone predicts as well (perplexity 2.23 and 2.23)"
}
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
    missed = [
        name
        for name, good in {
            "far is as near": ours <= 1.05 * trained,
            "constant memory": numbers["bytes held, last over first"] <= 1.0,
            "everything breaks": numbers["perplexity, everything"] >= 2 * ours,
            "a window alone breaks": numbers["perplexity, window"] >= 2 * ours,
        }.items()
        if not good
    ]
    return Verdict(holds=not missed, numbers=numbers, reason=f"missed: {', '.join(missed)}" if missed else "")


def _far(model: torch.nn.Module, memory: Chain, text: torch.Tensor, length: int) -> tuple[float, float]:
    """Nats per byte in the second half of the text, and bytes held at the end over those after two training lengths."""
    with torch.inference_mode(), attach(model, memory) as attached:  # pyright: ignore[reportArgumentType]
        steps = list(stream(attached, text.split(length)))
    half = len(steps) // 2
    assert all(before.tokens < after.tokens for before, after in pairwise(steps))
    return sum(step.recent_nats for step in steps[half:]) / (len(steps) - half), steps[-1].nbytes / steps[1].nbytes
