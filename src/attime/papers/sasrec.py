"""SASRec: causal self-attention over a user's items.

Claim:   self-attention over the past items recommends better than popularity and Markov chains (NDCG@10 on ml-1m of 0.5905
         among 100 negatives, item transitions 0.438), and is cheap since every place of a sequence is learnt from at once.
Parts:   models.TokenModel (the item embedding is shared with the head, as in the paper), attention.softmax.Softmax,
         tasks.NextItem
Proof:   on ml-1m, train the model for `steps` with the loss at all places, and as often with the loss at one place per
         user, as prefix-by-prefix training has it. By default: the former must rank better than the latter and than
         popularity. FULL trains longer, on 200 items, and must also beat item transitions and reach an NDCG@10 of 0.52
         among 100 negatives.
Differs: softmax over all items instead of one negative; rotary instead of learned positions; pre-norm; no dropout.
"""

import dataclasses

import torch

from attime.attention.softmax import Softmax
from attime.models import TokenModel
from attime.models.recipe import Recipe
from attime.papers.card import Paper, Verdict
from attime.tasks import NextItem
from attime.tasks.trial import outputs_of

PAPER = Paper(
    number=258,
    title="Self-Attentive Sequential Recommendation",
    url="https://arxiv.org/abs/1808.09781",
    parts=(TokenModel, Softmax, NextItem),
)
FULL = {"steps": 2000, "length": 200, "batch": 64, "reach": 0.52}


def run(
    *, steps: int = 40, length: int = 50, batch: int = 64, dim: int = 64, reach: float = 0.0, seed: int = 0
) -> Verdict:
    """Train with the loss at all places and at one, and rank all items for every user."""
    task = NextItem.public("ml-1m", length=length)
    floors = task.floors()
    scores = {name: task.score(floors[name], batch=256) for name in ("popularity", "item transitions")}
    scores["all places"] = _trained(task, steps, batch, dim, seed)
    scores["one place"] = _trained(dataclasses.replace(task, places=batch), steps, batch, dim, seed)
    gain, sampled = ({name: each[metric] for name, each in scores.items()} for metric in ("NDCG@10", "sampled NDCG@10"))
    holds = gain["all places"] > max(gain["one place"], gain["popularity"])
    if reach:
        holds = holds and sampled["all places"] >= max(reach, sampled["item transitions"])
    numbers = {f"NDCG@10, {name}": value for name, value in gain.items()}
    numbers |= {f"NDCG@10 among 100, {name}": value for name, value in sampled.items()}
    return Verdict(holds=holds, numbers=numbers)


def _trained(task: NextItem, steps: int, batch: int, dim: int, seed: int) -> dict[str, float]:
    model = Recipe(mixer="Softmax(heads=1)", dim=dim, layers=2, block=8.0, vocabulary=task.space.vocabulary).build(
        seed=seed
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, betas=(0.9, 0.98))
    predict, batches = outputs_of(model), task.train(seed=seed, batch=batch)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1, (step + 1) / (0.1 * steps)) * min(1, 2 * (1 - step / steps))
        each = next(batches)
        optimizer.zero_grad()
        task.loss(predict(each), each).backward()
        optimizer.step()
    model.eval()
    return task.score(predict, batch=256)
