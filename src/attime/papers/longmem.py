"""LongMem: a frozen language model writes keys and values to a memory, and a side network learns to read them.

Claim:   a memory that a frozen model fills, and a residual side network of half its depth reads through retrieval and a gate per
         head, gives what stood far before the window to a model that cannot see it, and nothing in the memory grows stale.
Parts:   memory.retrieve.Chunks, hub.side.SideNet, attention.sparse.gated_retrieval.gated
Proof:   entities and their names stand in the first segment of a document of the zoo's recall model; noise follows; in the last
         segment the names come again. Side networks are trained alike with the memory, with it and the gate left at one half,
         and without it. Perplexity of what belongs to the names, in new documents, must be at least 30 % below the best of the
         network without memory and of guessing among all entities; and not so with a memory that ends before the first
         segment. With chunks of one token the reading must be attention to the nearest keys as a search through all finds
         them (1e-10); the frozen model keeps every bit.
Differs: the recall model has two layers; it is given one that adds nothing before each of them, so that the side network has two
         and each begins as one of its own (the outputs are the same to the bit), and what its last layer keeps is
         remembered. Trained on what is asked only. That a gate is learnt helps nothing (perplexity 8.8, 6.4, 5.2 at seeds
         0 to 2; 9.9, 5.6, 5.4 with one half). Documents six times as long as those of training are much harder (65, 41,
         34, where guessing among all entities has 64). Of ChapterBreak and of in-context learning nothing is shown.
"""

import copy
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from attime.attention.sparse.gated_retrieval import gated
from attime.hub.side import SideNet
from attime.memory.retrieve import Chunks
from attime.papers.card import Paper, Verdict
from attime.zoo import load

PAPER = Paper(
    number=169,
    title="Augmenting Language Models with Long-Term Memory",
    url="https://arxiv.org/abs/2306.07174",
    parts=(Chunks, SideNet, gated),
)
FULL = {"steps": 200, "segments": 6, "longer": 32}
LENGTH, NAMES, ENTITIES, PAIRS, ROWS, TESTED = 32, 64, 64, 8, 10, 32


def run(
    *, steps: int = 36, segments: int = 3, longer: int = 18, entries: int = 16, rate: float = 1e-2, seed: int = 0
) -> Verdict:
    """Train side networks with and without a memory; ask for entities named long before the window."""
    torch.manual_seed(seed)
    model = _deeper(load("recall").model)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    large, small = (Chunks(capacity=size, entries=entries) for size in (longer * LENGTH, LENGTH))
    q, k, v = (torch.randn(2, 3, time, 8, dtype=torch.float64) for time in (7, 50, 50))
    held = Chunks(capacity=50, chunk=1, entries=5).open()
    held.add(k, v)
    keys, values = held.recall(q) or (k[:0], v[:0])
    ours = gated(torch.zeros_like(q), q, keys, values, torch.full((3,), torch.inf, dtype=q.dtype), scale=1.0)
    scores = q @ k.mT
    all_ = scores.masked_fill(scores < scores.topk(5).values[..., -1:], -torch.inf).softmax(-1) @ v
    numbers = {"error, chunks of one token": float((ours - all_).abs().max())}
    sides = {}
    for name, memory in {"memory": large, "gate at one half": large, "no memory": None}.items():
        random, sides[name] = torch.Generator().manual_seed(seed), SideNet(model, layer=3)
        sides[name].gate.requires_grad_(name == "memory")
        learnt = [weight for weight in sides[name].parameters() if weight.requires_grad]
        optimiser = torch.optim.Adam(learnt, lr=rate)
        for _ in range(steps):
            optimiser.zero_grad()
            _nats(sides[name], memory, ROWS, segments, random).backward()
            optimiser.step()
    asked = {name: (sides[name], None if name == "no memory" else large, segments) for name in sides}
    asked["memory too small"] = (sides["memory"], small, segments)
    asked["memory, longer documents"] = (sides["memory"], large, longer)
    with torch.no_grad():
        for name, (side, memory, length) in asked.items():
            random = torch.Generator().manual_seed(10_000 + seed)
            numbers[f"perplexity, {name}"] = float(_nats(side, memory, TESTED, length, random).exp())
    gates = sides["memory"].gate.detach().sigmoid()
    numbers |= {"gate, least": float(gates.min()), "gate, greatest": float(gates.max())}
    kept = all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    kept = kept and all(weight.grad is None for weight in model.parameters())
    best = 0.7 * min(float(ENTITIES), numbers["perplexity, no memory"])
    failed = {
        "reading is not attention to the nearest keys": numbers["error, chunks of one token"] < 1e-10,
        "the frozen model has changed": kept,
        "the memory does not help": numbers["perplexity, memory"] <= best,
        "a memory too small helps": numbers["perplexity, memory too small"] > best,
    }
    reason = "; ".join(why for why, holds in failed.items() if not holds)
    return Verdict(holds=not reason, numbers=numbers, reason=reason)


def _nats(side: SideNet, memory: Chunks | None, rows: int, segments: int, random: torch.Generator) -> Tensor:
    """Mean nats of entities whose names come in the last segment; names and entities stood in the first, noise between."""
    noise = torch.randint(NAMES + ENTITIES, NAMES + ENTITIES + 64, (rows, segments, LENGTH), generator=random)
    names, entities, where, again = (
        torch.rand(rows, many, generator=random).argsort(1)[:, :PAIRS]
        for many in (NAMES - 1, ENTITIES, LENGTH // 2, LENGTH)
    )
    row = torch.arange(rows)[:, None]
    noise[row, 0, 2 * where], noise[row, 0, 2 * where + 1] = names + 1, entities + NAMES
    noise[row, -1, again] = names + 1
    held = None if memory is None else memory.open()
    if held is not None:
        for segment in range(segments - 1):
            side.remember(noise[:, segment], held)
    return F.cross_entropy(side(noise[:, -1], held)[row, again].flatten(0, 1), (entities + NAMES).flatten())


@torch.no_grad()
def _deeper(model: Any) -> Any:
    """A model of the same outputs, to the bit, with a layer that adds nothing before each of its own."""
    config = copy.deepcopy(model.config)
    config.num_hidden_layers *= 2
    made = type(model)(config).eval()
    own = list(made.model.layers)
    for layer, empty, kept in zip(model.model.layers, own[::2], own[1::2], strict=True):
        kept.load_state_dict(layer.state_dict())
        for last in (empty.self_attn.o_proj, empty.mlp.down_proj):
            last.weight.zero_()
    weights = {name: each for name, each in model.state_dict().items() if ".layers." not in name}
    made.load_state_dict(weights, strict=False)
    return made
