"""Retrieval Head: a few heads fetch from the context, and without them the model no longer finds what it has read.

Claim:   a small share of the heads does the copying from afar; the same heads whatever the length and the needle;
         silencing the best few destroys recall, silencing as many others does not.
Parts:   lens.copied_share (retrieval score), lens.attention_map, hub.attending (maps are read, heads are silenced), zoo "recall"
Proof:   the model is asked to go on with a passage in a haystack of passages (a needle of several tokens), greedily; all
         heads are scored at three lengths. Silencing the best heads takes recall below a fifth, silencing as many of the
         lower half, drawn several times, leaves nine tenths; scores at one length tell those at another (correlation > 0.9).
         The same silencing is tried on another task, a value to be looked up by its key.
Differs: a silent head still sees the last 8 tokens: of 8 heads those that link neighbours are needed as well, and they
         are not what is asked about. So few heads cannot have 5 % of them for retrieval: half at most may score above
         0.1. Samples are those whose every token is right. Chain of thought is not measured.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

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
WAIVED = {
    "the_claim_holds": "the zoo's recall model copies at its own length alone, so its heads cannot be scored at three lengths"
}
FULL = {"rows": 512, "draws": 20}
NEAR = 8


def run(*, rows: int = 48, silenced: int = 2, draws: int = 4, seed: int = 0) -> Verdict:
    """Score the heads, silence the best and others, ask again."""
    model: Any = zoo.load("recall").model
    sizes = model.config.num_hidden_layers, model.config.num_attention_heads
    whole = next(passages(seed=1_000_003 + seed, batch=rows))
    half = whole.inputs.shape[1] // 2
    generator = torch.Generator().manual_seed(seed)
    scores = []
    for count in (half // PASSAGE // 2, half // PASSAGE * 3 // 4, half // PASSAGE):
        hay = whole.inputs[:, : count * PASSAGE].unflatten(1, (count, PASSAGE))
        chosen = torch.randint(count, (rows,), generator=generator)
        needle = torch.zeros(rows, count, PASSAGE, dtype=torch.bool)
        needle[torch.arange(rows), chosen, 1:] = True
        passage = hay[torch.arange(rows), chosen]
        asked = torch.cat([hay.flatten(1), passage[:, :-1]], dim=1)
        scores.append(_read(model, asked, passage[:, 1:], needle.flatten(1), sizes))
    score = torch.stack(scores).mean(0).flatten()
    order = score.argsort(descending=True)
    lower = order[len(order) // 2 :]
    lookup = next(NEEDLE.train(seed=1_000_003 + seed, batch=rows))

    def recall(heads: Tensor) -> tuple[float, float]:
        silent = torch.zeros(len(score), dtype=torch.bool).scatter(0, heads, True).view(sizes)
        with torch.no_grad(), attending(model, partial(_attend, silent=silent)):
            went_on = model(asked, use_cache=False).logits[:, 1 - PASSAGE :].argmax(-1)
            found = model(lookup.inputs, use_cache=False).logits[:, -1].argmax(-1)
        right = (went_on == passage[:, 1:]).double().mean(), (found == lookup.targets).double().mean()
        return float(right[0]), float(right[1])

    others = [lower[torch.randperm(len(lower), generator=generator)[:silenced]] for _ in range(draws)]
    kept = torch.tensor([recall(heads) for heads in others]).mean(0)
    with_all, without = recall(order[:0]), recall(order[:silenced])
    numbers = {
        "heads_above_0.1": float((score >= 0.1).double().mean()),
        "best_score": float(score.max()),
        "median_score": float(score.median()),
        "same_between_lengths": float(torch.corrcoef(torch.stack(scores).flatten(1)).min()),
        "recall": with_all[0],
        "recall_without_best": without[0],
        "recall_without_others": float(kept[0]),
        "lookup": with_all[1],
        "lookup_without_best": without[1],
        "lookup_without_others": float(kept[1]),
    }
    few = numbers["heads_above_0.1"] <= 0.5 and numbers["same_between_lengths"] > 0.9
    cause = without[0] < 0.2 * with_all[0] and float(kept[0]) > 0.9 * with_all[0]
    reason = "" if few and cause else "silencing does not tell them apart" if few else "too many heads, or not the same"
    return Verdict(holds=few and cause, numbers=numbers, reason=reason)


def _read(model: Any, asked: Tensor, wanted: Tensor, needle: Tensor, sizes: tuple[int, int]) -> Tensor:
    """Mean retrieval score of every head, over the rows in which every token was right."""
    maps = list[Tensor]()
    with torch.no_grad(), attending(model, partial(_attend, silent=torch.zeros(sizes, dtype=torch.bool), maps=maps)):
        written = model(asked, use_cache=False).logits[:, -wanted.shape[1] :].argmax(-1)
    right = (written == wanted).all(1)
    needle = torch.nn.functional.pad(needle, (0, asked.shape[1] - needle.shape[1]))
    each = [
        copied_share(rows[right, :, -wanted.shape[1] :], asked[right], written[right], needle[right]) for rows in maps
    ]
    return torch.stack([score.mean(0) for score in each])


def _attend(
    layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, *, silent: Tensor, maps: list[Tensor] | None = None
) -> Tensor:
    """Attention in which silent heads see the last tokens alone; its maps are noted."""
    seen = attention_map(q, k, scale=scale)
    if bool(silent[layer].any()):
        near = attention_map(q, k, scale=scale, window=NEAR)
        seen = torch.where(silent[layer][:, None, None], near, seen)
    if maps is not None:
        maps.append(seen)
    return seen @ v.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
