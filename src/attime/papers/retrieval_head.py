"""Retrieval Head: a few heads fetch from the context, and without them the model no longer finds what it has read.

Claim:   a small share of the heads does the copying from afar; the same heads whatever the length and the needle;
         silencing the best few destroys recall, silencing as many others does not.
Parts:   lens.copied_share (retrieval score), lens.attention_map, hub.attending (maps are read, heads are silenced), zoo "recall"
Proof:   the model is asked to go on with a passage in a haystack of passages (a needle of several tokens), greedily; all
         heads are scored at four lengths, the last one twice what the model was trained at. At most 15 % of the heads score
         above 0.1. Silencing these takes recall below a fifth, silencing as many of the others, drawn several times, leaves
         nine tenths; scores at one length tell those at another (correlation > 0.9).
         The same silencing is tried on another task, a value to be looked up by its key.
Differs: a silent head still sees the last 8 tokens: of 16 heads those that link neighbours are needed as well, and they
         are not what is asked about. That few heads fetch is not found but made: in half of the steps of the recipe all
         heads but one in a layer see a window. What is shown is that the score finds the head, and that it is the cause.
         Correlation is of the scores; ranks among heads that all score next to nothing mean little. Samples are those
         whose every token is right. Chain of thought is not measured.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from attime import zoo
from attime.hub import attending
from attime.lens import attention_map, copied_share
from attime.papers.card import Paper, Verdict
from attime.zoo.recall import NEEDLE, PASSAGE, passages

PAPER = Paper(
    number=151,
    title="Retrieval Head Mechanistically Explains Long-Context Factuality",
    url="https://arxiv.org/abs/2404.15574",
    parts=(copied_share, attention_map, attending),
)
FULL = {"rows": 512, "draws": 20}
NEAR, LENGTHS = 8, (128, 256, 512, 1024)


def run(*, rows: int = 24, draws: int = 4, seed: int = 0) -> Verdict:
    """Score the heads, silence the best and others, ask again."""
    model: Any = zoo.load("recall").model
    sizes = model.config.num_hidden_layers, model.config.num_attention_heads
    generator = torch.Generator().manual_seed(seed)
    scores = dict[int, Tensor]()
    for length in LENGTHS:
        scores[length] = _read(model, seed, rows, length)[2]
    score = torch.stack(list(scores.values())).mean(0).flatten()
    order, silenced = score.argsort(descending=True), max(1, int((score >= 0.1).sum()))
    others = order[silenced:]
    asked, passage, _ = _read(model, seed, rows, NEEDLE.length)
    lookup = next(NEEDLE.train(seed=1_000_003 + seed, batch=rows))

    def recall(heads: Tensor) -> tuple[float, float]:
        silent = torch.zeros(len(score), dtype=torch.bool).scatter(0, heads, True).view(sizes)
        with torch.no_grad(), attending(model, partial(_attend, silent=silent)):
            went_on = model(asked, use_cache=False).logits[:, 1 - PASSAGE :].argmax(-1)
            found = model(lookup.inputs, use_cache=False).logits[:, -1].argmax(-1)
        right = (went_on == passage[:, 1:]).double().mean(), (found == lookup.targets).double().mean()
        return float(right[0]), float(right[1])

    drawn = [others[torch.randperm(len(others), generator=generator)[:silenced]] for _ in range(draws)]
    kept = torch.tensor([recall(heads) for heads in drawn])
    with_all, without = recall(order[:0]), recall(order[:silenced])
    numbers = {
        "heads_above_0.1": float((score >= 0.1).double().mean()),
        "best_score": float(score.max()),
        "median_score": float(score.median()),
        "same_between_lengths": float(torch.corrcoef(torch.stack(list(scores.values())).flatten(1)).min()),
        "recall": with_all[0],
        "recall_without_best": without[0],
        "recall_without_others": float(kept[:, 0].mean()),
        "recall_without_others_at_worst": float(kept[:, 0].min()),
        "lookup": with_all[1],
        "lookup_without_best": without[1],
        "lookup_without_others": float(kept[:, 1].mean()),
    }
    few = 0 < numbers["heads_above_0.1"] <= 0.15 and numbers["same_between_lengths"] > 0.9
    cause = without[0] < 0.2 * with_all[0] and numbers["recall_without_others"] > 0.9 * with_all[0]
    reason = "" if few and cause else "silencing does not tell them apart" if few else "too many heads, or not the same"
    return Verdict(holds=few and cause, numbers=numbers, reason=reason)


def _read(model: Any, seed: int, rows: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """A haystack with all but the last token of a passage behind it, that passage, and the mean retrieval score of every head.

    The score is over the rows in which every token was right.
    """
    drawn, maps = next(passages(seed=1_000_003 + seed, batch=rows, length=length)), list[Tensor]()
    start = int(drawn.scored[0].to(torch.int8).argmax())
    asked, passage = drawn.inputs[:, : start + PASSAGE - 1], drawn.inputs[:, start : start + PASSAGE]
    silent = torch.zeros(model.config.num_hidden_layers, model.config.num_attention_heads, dtype=torch.bool)
    with torch.no_grad(), attending(model, partial(_attend, silent=silent, maps=maps)):
        written = model(asked, use_cache=False).logits[:, 1 - PASSAGE :].argmax(-1)
    right = (written == passage[:, 1:]).all(1)
    needle = (asked[:, :, None] == passage[:, None, 1:]).any(2)
    needle[:, 1 - PASSAGE :] = False
    each = [copied_share(seen[right], asked[right], written[right], needle[right]) for seen in maps]
    return asked, passage, torch.stack([score.mean(0) for score in each])


def _attend(
    layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, *, silent: Tensor, maps: list[Tensor] | None = None
) -> Tensor:
    """Attention in which silent heads see the last tokens alone; what the last queries attend to is noted."""
    out = scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
    if bool(silent[layer].any()):
        near = attention_map(q, k, scale=scale, window=NEAR) @ v.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
        out = torch.where(silent[layer][:, None, None], near, out)
    if maps is not None:
        maps.append(attention_map(q[:, :, 1 - PASSAGE :], k, scale=scale))
    return out
