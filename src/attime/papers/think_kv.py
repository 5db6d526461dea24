"""ThinK: the queries tell which channels of the keys are worth keeping.

Claim:   40 % of the channels of older keys can go, each head's by a query-driven score, at equal accuracy; memory falls.
Parts:   memory.quantize.ThinKeys, memory.quantize.thin_keys.channel_scores
Proof:   the zoo's byte model reads held-out Python. Without 40 % of the channels of a head's keys, chosen from its last 32
         queries, the logits of these queries must be nearer to the whole ones than without as many random channels and than
         without those whose keys are small, in at least 95 % of the heads. The zoo's recall model must find at least 99 % as
         many needles with thin keys as with whole ones, and the byte model hold less than 0.85 of the bytes.
Differs: keys grow thin for life and not once; bytes and tokens in place of LongBench; the whole cache is kept otherwise.
         Needles, bytes and random channels are as claimed, in all heads. The size of the keys alone chooses about as well as
         queries do: these small models' queries and keys are large in the same channels. So the claim as put here fails.
"""

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from attime.hub import attach
from attime.memory import chain
from attime.memory.quantize import ThinKeys
from attime.memory.quantize.thin_keys import channel_scores
from attime.papers.card import Paper, Verdict
from attime.streams.text import standard_library
from attime.zoo import load
from attime.zoo.recall import NEEDLE

PAPER = Paper(
    number=178,
    title="ThinK: Thinner Key Cache by Query-Driven Pruning",
    url="https://arxiv.org/abs/2407.21018",
    parts=(ThinKeys, channel_scores),
)
WAIVED = {"the_claim_holds": "in models this small the size of the keys alone chooses channels as well as queries do"}
FULL = {"rows": 64}
CHOICES = ("queries", "keys", "random")


@torch.inference_mode()
def run(*, share: float = 0.4, rows: int = 6, recent: int = 32, seed: int = 0) -> Verdict:
    """Logits of each head without some channels, chosen in three ways; nats and bytes of a model that reads thin keys."""
    model: Any = load("bytes").model
    length, random = int(model.config.max_position_embeddings), torch.Generator().manual_seed(seed)
    held_out = standard_library().test
    starts = np.random.default_rng(seed).integers(len(held_out) - length, size=rows)
    text = torch.from_numpy(np.stack([held_out[start : start + length] for start in starts])).long()

    observed = ThinKeys().observed
    found: dict[str, list[Tensor]] = {f"{name}, {which}": [] for name in CHOICES for which in ("observed", "next")}
    with attach(model, ThinKeys(observed=2 * observed, every=10 * length)) as watched:  # asks for queries, never acts
        cache = watched.cache()
        model(text, past_key_values=cache)
        for past in (layer.pasts[0][1] for layer in cache.memory):
            assert past.queries is not None
            before, after = past.queries.now.split(observed, dim=1)
            keys = past.banks[0].keys()[:, : length - 2 * observed]
            drawn = torch.rand(len(keys), keys.shape[2], generator=random)
            for name, score in zip(CHOICES, (channel_scores(before, keys), keys.square().sum(1), drawn), strict=True):
                for which, queries in (("observed", before), ("next", after)):
                    lost = _error(queries, keys, score, round(share * keys.shape[2]))
                    found[f"{name}, {which}"].append(lost.view(rows, -1).mean(0))
    errors = {name: torch.cat(each) for name, each in found.items()}
    numbers = {f"logit error, {name}": float(each.mean()) for name, each in errors.items()}
    for name in CHOICES[1:]:
        for which in ("observed", "next"):
            won = errors[f"queries, {which}"] < errors[f"{name}, {which}"]
            numbers[f"heads where queries beat {name}, {which}"] = float(won.double().mean())
    needles, seeker = next(NEEDLE.train(seed=1_000_003 + seed, batch=8 * rows)), cast(Any, load("recall").model)
    for name, memory in {"whole": chain(), "thin": ThinKeys(share=share, recent=recent, every=recent)}.items():
        with attach(seeker, memory):
            guess = seeker(needles.inputs).logits[needles.scored].argmax(-1)
        numbers[f"needles found, {name}"] = float((guess == needles.targets).double().mean())
        with attach(model, memory) as attached:
            cache = attached.cache()
            model(text.view(1, -1)[:, : 8 * length], past_key_values=cache)
        numbers[f"bytes, {name}"] = float(sum(line.nbytes for line in cache.ledger()))
    numbers["bytes, thin over whole"] = numbers["bytes, thin"] / numbers["bytes, whole"]
    nearest = min(numbers[f"heads where queries beat {name}, observed"] for name in CHOICES[1:]) >= 0.95
    finds = numbers["needles found, thin"] >= 0.99 * numbers["needles found, whole"]
    smaller = numbers["bytes, thin over whole"] < 0.85
    holds = nearest and finds and smaller
    return Verdict(holds=holds, numbers=numbers, reason="" if holds else f"{nearest=}, {finds=}, {smaller=}")


def _error(queries: Tensor, keys: Tensor, score: Tensor, less: int) -> Tensor:
    """Relative error of q . k in each lane without the `less` channels of the lowest scores."""
    kept = torch.ones_like(score).scatter(1, score.argsort(dim=1)[:, :less], 0.0)
    flat = queries.flatten(1, 2)
    lost = (flat * (1 - kept)[:, None]) @ keys.mT
    return lost.square().sum((1, 2)) / (flat @ keys.mT).square().sum((1, 2))
