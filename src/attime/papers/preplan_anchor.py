"""Preplan and Anchor: heads that look near show where a stretch is planned, heads that look far what is come back to.

Claim:   the backward distance of local heads (WAAD) peaks where a stretch of text begins; tokens with a large influence on later
         ones (FAI of global heads) are those that what follows rests on; credit given to both makes reinforcement learning
         of reasoning better.
Parts:   lens.attention_distance, lens.future_influence, lens.local_heads, hub.watch; zoo "bytes" and "recall"
Proof:   stretches are lines of Python: how well WAAD tells the ends of lines, after which a new one is planned, from all other
         bytes (AUROC), for the local heads, for as many heads drawn at random and for an untrained model. Anchors are
         passages, half of which come again: how well FAI tells their tokens from the others', for the global heads, the
         local heads and an untrained model. Replacing the tokens of most influence costs more of what is copied
         than replacing as many others.
Differs: no reasoning model is small enough, so nothing is shown of reinforcement learning, nor of the pairing of a plan with its
         anchor. The window is 40 bytes for the paper's 10 tokens, and influence counts all that comes later than a passage.
         Global heads are those of the recall model's last layer: in its first, where nothing can be looked for yet, a head
         that looks far looks at nothing in particular (with it among them: the number for all layers). Heads drawn at
         random tell lines as well, if less. In the bytes model influence tells names that come back only faintly
         (AUROC 0.62, untrained 0.55).
"""

from typing import Any

import torch
from torch import Tensor

from attime import zoo
from attime.hub import watch
from attime.lens import attention_distance, future_influence, local_heads
from attime.papers.card import Paper, Verdict
from attime.streams.text import standard_library
from attime.zoo.recall import KINDS, PASSAGE

PAPER = Paper(
    number=263,
    title="Attention Illuminates LLM Reasoning: The Preplan-and-Anchor Rhythm Enables Fine-Grained Policy Optimization",
    url="https://arxiv.org/abs/2510.13554",
    parts=(attention_distance, future_influence, local_heads, watch),
)
FULL = {"rows": 256, "draws": 100}
LENGTH, EARLY, NEWLINE = 256, 64, 10  # bytes of a row, those too early to look back, and what ends a line
FIRST, AGAIN, REPLACED = 8, 4, 32  # passages, how many of them come again, tokens replaced


def run(*, rows: int = 24, window: int = 40, share: float = 0.3, draws: int = 20, seed: int = 0) -> Verdict:
    """Lines of the bytes model, then passages of the recall model."""
    random = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    made, text = zoo.load("bytes"), torch.from_numpy(standard_library().test.copy()).long()
    starts = torch.randint(len(text) - LENGTH, (rows, 1), generator=random)
    read = text[starts + torch.arange(LENGTH)]
    maps, ends = _maps(made.model, read), read == NEWLINE
    near, _ = local_heads(maps, share=share)
    others = [torch.randperm(len(near), generator=random)[: int(near.sum())] for _ in range(draws)]

    def lines(seen: Tensor, heads: Tensor, wide: int = window) -> float:
        distance = attention_distance(seen[:, heads], window=wide).mean(1)
        return _auroc(distance[:, EARLY:], ends[:, EARLY:])

    numbers = {
        "lines, local heads": lines(maps, near),
        "lines, local heads, window of 10 bytes": lines(maps, near, 10),
        "lines, random heads": sum(lines(maps, each) for each in others) / draws,
        "lines, untrained": lines(_maps(made.build(), read), near),
    }
    recall: Any = zoo.load("recall")
    kinds = torch.rand(rows, KINDS, generator=random).argsort(1)
    first, spare = kinds[:, : FIRST * PASSAGE], kinds[:, FIRST * PASSAGE :]
    chosen = torch.rand(rows, FIRST, generator=random).argsort(1)[:, :AGAIN]
    again = first.unflatten(1, (FIRST, PASSAGE)).gather(1, chosen[..., None].expand(-1, -1, PASSAGE)).flatten(1)
    back = torch.zeros(rows, FIRST, dtype=torch.bool).scatter(1, chosen, True).repeat_interleave(PASSAGE, 1)
    both = torch.cat([first, again], 1)
    seen, fresh = _maps(recall.model, both), _maps(recall.build(), both)
    heads = seen.shape[1] // int(recall.model.config.num_hidden_layers)
    near, far = local_heads(seen[:, -heads:], share=share)
    _, anywhere = local_heads(seen, share=share)

    def influence(of: Tensor) -> Tensor:
        return future_influence(of, near=PASSAGE, far=both.shape[1]).mean(1)[:, : first.shape[1]]

    anchors = influence(seen[:, -heads:][:, far])
    single = [_auroc(influence(seen[:, [head]]), back) for head in range(seen.shape[1])]
    numbers |= {
        "anchors, global heads": _auroc(anchors, back),
        "anchors, global heads of all layers": _auroc(influence(seen[:, anywhere]), back),
        "anchors, local heads": _auroc(influence(seen[:, -heads:][:, near]), back),
        "anchors, a head on average": sum(single) / len(single),
        "anchors, untrained": _auroc(influence(fresh[:, -heads:][:, far]), back),
    }
    drawn = torch.rand(first.shape, generator=random)
    ranks = {
        f", {name} replaced": score.topk(REPLACED).indices for name, score in (("anchors", anchors), ("others", drawn))
    }
    inside = torch.arange(AGAIN * PASSAGE - 1) % PASSAGE != PASSAGE - 1
    for name, where in {"": torch.empty(rows, 0, dtype=torch.long), **ranks}.items():
        with torch.no_grad():
            given = torch.cat([first.scatter(1, where, spare), again], 1)
            logits = recall.model(input_ids=given, use_cache=False).logits
        right = logits[:, first.shape[1] : -1].argmax(-1) == again[:, 1:]
        numbers[f"copied{name}"] = float(right[:, inside].double().mean())
    planned = numbers["lines, local heads"] > max(0.8, numbers["lines, random heads"], numbers["lines, untrained"])
    rest = max(numbers[f"anchors, {name}"] for name in ("local heads", "a head on average", "untrained"))
    anchored = numbers["anchors, global heads"] > 0.8 > rest
    cause = numbers["copied, anchors replaced"] < numbers["copied, others replaced"] - 0.05
    holds = planned and anchored and cause
    return Verdict(holds=holds, numbers=numbers, reason="" if holds else f"{planned=}, {anchored=}, {cause=}")


def _maps(model: Any, tokens: Tensor) -> Tensor:
    """Attention of all heads, layer after layer."""
    with torch.no_grad(), watch(model.eval()) as seen:
        model(input_ids=tokens, use_cache=False)
    return torch.cat([each.value for each in seen], dim=1)


def _auroc(score: Tensor, label: Tensor) -> float:
    """How often one of the labelled has a higher score than one of the others."""
    _, rank, count = score.flatten().unique(return_inverse=True, return_counts=True)
    mean_rank = (count.cumsum(0) - (count - 1) / 2).double()[rank]
    there = label.flatten()
    ones, others = int(there.sum()), int((~there).sum())
    return float((mean_rank[there].sum() - ones * (ones + 1) / 2) / (ones * others))
