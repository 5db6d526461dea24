"""ThinK: the queries tell which channels of the keys are worth keeping.

Claim:   40 % of the channels of older keys can go, each head's by a query-driven score, at equal accuracy; memory falls, and
         the size of the keys alone, which does not know the queries, chooses worse.
Parts:   memory.quantize.ThinKeys, memory.quantize.thin_keys.channel_scores
Proof:   the zoo's byte model reads held-out Python, loses 40 % of the channels of all but the last 32 keys, chosen from its
         last 32 queries, and reads on, so that it is judged by queries that come right after. It must lose at most 1 % more
         nats than with whole keys, fewer than where the size of the keys chooses, and hold less than 0.85 of the bytes over
         its whole life. Logits of the next queries must be nearer to the whole ones than without as many random channels in
         at least 95 % of the heads.
Differs: keys grow thin for life and not once; bytes of Python in place of LongBench; the whole cache is kept otherwise. All
         but one is found: the size of the keys chooses as well. With seeds 0, 1, 2 nats rise by 0.008, 0.009, -0.002 of 1.1,
         1.1, 0.9 with queries and by 0.007, 0.006, -0.006 with keys alone (random channels: 0.02 to 0.08); at 60 % by 0.033,
         0.027, 0.005 and 0.030, 0.033, 0.010. The queries that chose are served better, in 75 % of the heads, and the next
         32 in 25 %: queries of so small a model are large in the same channels as its keys.
"""

from typing import Any

import torch
from torch import Tensor

from attime.hub import attach
from attime.memory import chain
from attime.memory.quantize import ThinKeys
from attime.memory.quantize.thin_keys import channel_scores
from attime.papers.card import Paper, Verdict
from attime.streams.text import standard_library
from attime.zoo import load

PAPER = Paper(
    number=178,
    title="ThinK: Thinner Key Cache by Query-Driven Pruning",
    url="https://arxiv.org/abs/2407.21018",
    parts=(ThinKeys, channel_scores),
)
WAIVED = {
    "the_claim_holds": "the size of the keys alone chooses channels as well as queries do (0.007 nats against 0.008)"
}
FULL = {"rows": 128}


@torch.inference_mode()
def run(*, share: float = 0.4, rows: int = 16, prompt: int = 160, more: int = 64, seed: int = 0) -> Verdict:
    """Nats of what follows a prompt whose keys were made thin; logits of each head without some channels; bytes for life."""
    model: Any = load("bytes").model
    held_out, generator = torch.from_numpy(standard_library().test.copy()).long(), torch.Generator().manual_seed(seed)
    start = torch.randint(len(held_out) - prompt - more, (rows,), generator=generator)
    text = held_out[start[:, None] + torch.arange(prompt + more)]
    memories = {"whole": chain()} | {
        name: chain(ThinKeys(share=share, every=prompt, by=name)) for name in ("queries", "keys")
    }
    numbers = dict[str, float]()
    for name, memory in memories.items():
        with attach(model, memory) as attached:
            cache = attached.cache()
            model(text[:, :prompt], past_key_values=cache, logits_to_keep=1)
            logits = model(text[:, prompt:-1], past_key_values=cache).logits
        follow = torch.nn.functional.cross_entropy(logits.flatten(0, 1), text[:, prompt + 1 :].flatten())
        numbers[f"nats, {name}"] = float(follow)

    observed, better = ThinKeys().observed, list[Tensor]()
    with attach(model, ThinKeys(observed=2 * observed, every=100 * prompt)) as watched:  # asks for queries, never acts
        cache = watched.cache()
        model(text[:, :prompt], past_key_values=cache, logits_to_keep=1)
        for past in (layer.pasts[0][1] for layer in cache.memory):
            assert past.queries is not None
            before, after = past.queries.now.split(observed, dim=1)
            keys = past.banks[0].keys()[:, : prompt - 2 * observed]
            drawn = torch.rand(len(keys), keys.shape[2], generator=generator)
            lost = [
                _error(after, keys, score, round(share * keys.shape[2])).view(rows, -1).mean(0)
                for score in (channel_scores(before, keys), drawn)
            ]
            better.append(lost[0] < lost[1])
    numbers["heads where queries beat random"] = float(torch.cat(better).double().mean())
    for name, memory in {"whole": chain(), "thin": ThinKeys(share=share, every=32)}.items():
        with attach(model, memory) as attached:
            cache = attached.cache()
            model(text.view(1, -1)[:, :2048], past_key_values=cache)
        numbers[f"bytes, {name}"] = float(sum(line.nbytes for line in cache.ledger()))
    numbers["bytes, thin over whole"] = numbers["bytes, thin"] / numbers["bytes, whole"]
    failed = {
        "thin keys lose more than 1 %": numbers["nats, queries"] <= 1.01 * numbers["nats, whole"],
        "the size of the keys chooses as well": numbers["nats, queries"] < numbers["nats, keys"],
        "random channels are as good": numbers["heads where queries beat random"] >= 0.95,
        "memory does not fall": numbers["bytes, thin over whole"] < 0.85,
    }
    reason = "; ".join(why for why, holds in failed.items() if not holds)
    return Verdict(holds=not reason, numbers=numbers, reason=reason)


def _error(queries: Tensor, keys: Tensor, score: Tensor, less: int) -> Tensor:
    """Relative error of q . k in each lane without the `less` channels of the lowest scores."""
    kept = torch.ones_like(score).scatter(1, score.argsort(dim=1)[:, :less], 0.0)
    flat = queries.flatten(1, 2)
    lost = (flat * (1 - kept)[:, None]) @ keys.mT
    return lost.square().sum((1, 2)) / (flat @ keys.mT).square().sum((1, 2))
