"""Recycled attention: most steps attend only to what the last full step attended to most, and nothing is lost for good.

Claim:   at the cost of attention to a small part, one full step in S finds out anew what matters: about twice the accuracy of
         a window with sinks, and better than evicting by attention received when what is needed changes on the way.
Parts:   memory.retrieve.Recycled, beside memory.evict.SinkWindow and Evict(Received), hub.attach
Proof:   the zoo's recall model reads 16 pairs, then keys among noise, after each of which its value is due: what is needed
         changes from lookup to lookup. All memories attend to the same share of the longest past (full steps aside). With a
         full step in 4, at least twice as many lookups are right as with sinks and window, and more than with eviction by
         received attention; with S = 1 it is full attention (1e-4), and S = 16 does not do better than S = 4.
Differs: lookups in place of RULER; a fixed stride; the pairs are read in full, as prompts are. The paper's speed is not
         shown here: at this length a step's cost is not its attention.
"""

from typing import Any

import torch
from torch import Tensor

from attime import zoo
from attime.hub import attach
from attime.memory import Policy, chain
from attime.memory.evict import Evict, Received, SinkWindow
from attime.memory.retrieve import Recycled
from attime.papers.card import Paper, Verdict
from attime.zoo.recall import RECALL

PAPER = Paper(
    number=201,
    title="Recycled Attention: Efficient inference for long-context language models",
    url="https://arxiv.org/abs/2411.05787",
    parts=(Recycled, SinkWindow, Evict, attach),
)
FULL = {"rows": 256}


@torch.inference_mode()
def run(*, rows: int = 16, share: float = 0.125, seed: int = 0) -> Verdict:
    """Lookups answered by memories that attend to `share` of the past, and how many of them are right."""
    model: Any = zoo.load("recall").model.double()
    batch = next(RECALL.train(seed=1_000_003 + seed, batch=rows))
    budget, pairs = int(share * batch.inputs.shape[1]), 2 * RECALL.pairs
    memories: dict[str, Policy] = {
        "everything": chain(),
        "sinks and window": SinkWindow(sinks=4, window=budget - 4, every=4),
        "received": Evict(score=Received(), budget=budget, sinks=4, recent=4, every=4),
    }
    memories |= {f"every {s}": Recycled(entries=budget - s, every=s, full=pairs) for s in (1, 4, 16)}
    logits = {name: _logits(model, memory, batch.inputs) for name, memory in memories.items()}
    numbers = {
        f"right, {name}": float((each[batch.scored].argmax(-1) == batch.targets).double().mean())
        for name, each in logits.items()
    }
    numbers["difference of S = 1 from everything"] = float((logits["every 1"] - logits["everything"]).abs().max())
    failed = {
        "S = 1 is not everything": numbers["difference of S = 1 from everything"] < 1e-4,
        "less than twice a window": numbers["right, every 4"] >= 2 * numbers["right, sinks and window"],
        "eviction does as well": numbers["right, every 4"] > numbers["right, received"],
        "seldom full steps do better": numbers["right, every 16"] <= numbers["right, every 4"],
    }
    reason = "; ".join(why for why, holds in failed.items() if not holds)
    return Verdict(holds=not reason, numbers=numbers, reason=reason)


def _logits(model: Any, memory: Policy, text: Tensor) -> Tensor:
    with attach(model, memory):
        return model(text).logits.float()
