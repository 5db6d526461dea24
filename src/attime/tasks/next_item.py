"""The next item of a user: what somebody watches, buys or reads after all that came before.

Protocol: leave one out. A user's last item is the test, the last but one the validation (which is part of the input at the
          test); users with fewer than four items are only trained on. Full ranking: among all items but those of the
          user's past. Beside it the older protocol, among 100 items drawn at random from those that are not in the user's
          training part, the same for every model. Every user counts. Equal scores count as a coin would order them.
Source:   SASRec, arXiv 1808.09781 (leave one out, 100 negatives); S3-Rec, arXiv 2008.07873 (full ranking).
Floors:   popularity; item transitions (Markov-1), which beat published attention models on the sparse Amazon sets.
Differs:  SASRec scores at most 10,000 users; here all.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from attime.errors import AttimeError
from attime.streams.events import Events
from attime.streams.public import public
from attime.tasks.contract import Batch, Metric, Predictor, Task, Tokens
from attime.tasks.scores import certain, ranked

__all__ = ["NextItem"]

TOP = 10
SHORTEST = 4  # users with fewer items are only trained on
LENGTHS = {"ml-1m": 200}


@final
@dataclass(frozen=True, kw_only=True)
class NextItem(Task):
    """Recommendation from a user's past (see the module docstring).

    Inputs are the last `length` items. In training at most `places` random places of a batch are scored, so that a softmax
    over all items stays affordable. `negatives` is the number of rivals in the sampled protocol.
    """

    metrics: ClassVar[tuple[Metric, ...]] = tuple(
        Metric(name=name, unit=name, better="higher")
        for name in ("HR@10", "NDCG@10", "sampled HR@10", "sampled NDCG@10")
    )
    events: Events = field(repr=False)
    length: int = 50
    places: int = 2048
    negatives: int = 100

    def __post_init__(self) -> None:
        if self.length < 1 or self.places < 1 or self.negatives < 1:
            raise AttimeError(
                f"NextItem needs length, places and negatives >= 1; got length={self.length}, places={self.places}, "
                f"negatives={self.negatives}."
            )
        longest = int(np.diff(self.events.offsets).max())
        if longest < SHORTEST or len(self.events.labels) < 2:
            raise AttimeError(
                f"NextItem needs two kinds of items and a user with {SHORTEST} or more events; {self.events.name} has "
                f"{len(self.events.labels)} kinds and at most {longest} events per user."
            )

    @classmethod
    def of(cls, events: Events, *, length: int | None = None, **options: Any) -> "NextItem":
        """The task on any event sequences; inputs of 200 items on ml-1m and 50 elsewhere, as in the field."""
        return cls(events=events, length=length or LENGTHS.get(events.name, 50), **options)

    @classmethod
    def public(cls, name: str = "ml-1m", *, length: int | None = None, **options: Any) -> "NextItem":
        """The task on a public data set."""
        events = public(name)
        if not isinstance(events, Events):
            raise AttimeError(f"NextItem needs events; {name} is not: take ml-1m, ml-100k, beauty, toys or games.")
        return cls.of(events, length=length, **options)

    @property
    def protocol(self) -> str:
        return f"{self.events.name}/leave-one-out-{self.length}"

    @property
    def space(self) -> Tokens:
        return Tokens(vocabulary=len(self.events.labels))

    def train(self, *, seed: int, batch: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed)
        values, start, stop = torch.from_numpy(self.events.values), *self._ends("train")
        users = torch.from_numpy(np.flatnonzero(stop - start >= 2))
        first, last = torch.from_numpy(start), torch.from_numpy(stop)
        order = torch.zeros(0, dtype=torch.long)
        while True:
            while len(order) < batch:
                order = torch.cat([order, users[torch.randperm(len(users), generator=generator)]])
            rows, order = order[:batch], order[batch:]
            spare = last[rows] - first[rows] - 1 - self.length  # a longer past is cut at a random place
            offset = (torch.rand(batch, generator=generator) * (spare.clamp(min=0) + 1)).long()
            begin = first[rows] + offset
            count = (last[rows] - 1 - begin).clamp(max=self.length)
            time = torch.arange(int(count.max()))
            valid = time < count[:, None]
            at = torch.where(valid, begin[:, None] + time, 0)
            chosen = torch.rand(valid.shape, generator=generator).masked_fill(~valid, 2.0).flatten()
            scored = torch.zeros_like(valid).flatten()
            scored[chosen.topk(min(self.places, int(valid.sum())), largest=False).indices] = True
            scored = scored.view_as(valid)
            yield Batch(inputs=values[at] * valid, targets=values[at + 1][scored], scored=scored, valid=valid)

    def split(self, name: Literal["valid", "test"], *, batch: int = 32) -> Iterator[Batch]:
        values, start, stop = torch.from_numpy(self.events.values), *self._ends(name)
        users = torch.from_numpy(np.flatnonzero(np.diff(self.events.offsets) >= SHORTEST))
        first, last = torch.from_numpy(start), torch.from_numpy(stop)
        for rows in users.split(batch):
            begin = torch.maximum(first[rows], last[rows] - self.length)
            count = last[rows] - begin
            time = torch.arange(int(count.max()))
            valid = time < count[:, None]
            at = torch.where(valid, begin[:, None] + time, 0)
            scored = time == count[:, None] - 1
            yield Batch(
                inputs=values[at] * valid, targets=values[last[rows]], scored=scored, valid=valid, rows=last[rows]
            )

    def floors(self) -> Mapping[str, Predictor]:
        start, stop = self._ends("train")
        owner = np.repeat(np.arange(len(start)), np.diff(self.events.offsets))
        inside = np.arange(len(owner)) < stop[owner]
        items = self.space.vocabulary
        counts = np.bincount(self.events.values[inside], minlength=items)
        popularity = torch.from_numpy(counts / (counts.max() + 1.0))  # below one: breaks ties between transitions
        follows = np.flatnonzero(inside[1:] & inside[:-1] & (owner[1:] == owner[:-1]))
        pairs, times = np.unique(
            self.events.values[follows] * items + self.events.values[follows + 1], return_counts=True
        )
        begins = torch.from_numpy(np.searchsorted(pairs, np.arange(items + 1) * items))
        after, weights = torch.from_numpy(pairs % items), torch.from_numpy(times.astype(np.float64))

        def transitions(batch: Batch) -> Tensor:
            last = batch.inputs[batch.scored]
            begin, kinds = begins[last], begins[last + 1] - begins[last]
            owner = torch.repeat_interleave(kinds)
            entry = torch.arange(len(owner)) + (begin - kinds.cumsum(0) + kinds)[owner]
            scores = popularity.repeat(len(last), 1)
            scores[owner, after[entry]] += weights[entry]
            return scores

        return {"popularity": lambda batch: popularity.expand(len(batch.targets), -1), "item transitions": transitions}

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs, batch.targets)

    def tally(self, outputs: Tensor, batch: Batch) -> Mapping[str, tuple[float, float]]:
        """Hit rate and gain by full ranking, and among the sampled rivals of each user."""
        target = outputs.gather(1, batch.targets[:, None])
        known = self._past(batch).scatter_(1, batch.targets[:, None], True)
        above = ((outputs > target) & ~known).sum(dim=1)
        equal = ((outputs == target) & ~known).sum(dim=1)
        rivals = outputs.gather(1, self._rivals(batch))
        drawn = (rivals > target).sum(dim=1), (rivals == target).sum(dim=1)
        scores = (*ranked(above, equal, TOP), *ranked(*drawn, TOP))
        return {
            metric.name: (float(score.sum()), float(len(score)))
            for metric, score in zip(self.metrics, scores, strict=True)
        }

    def oracle(self, batch: Batch) -> Tensor:
        return certain(batch.targets, self.space.vocabulary)

    def chance(self) -> Mapping[str, float]:
        """Equal scores for all items: a random order of the rivals."""
        return self.score(lambda batch: torch.zeros(len(batch.targets), self.space.vocabulary))

    def reading(self) -> Mapping[str, Any]:
        return {"kind": "items", "items": list(self.events.labels), "offset": 0, "length": self.length}

    @classmethod
    def examples(cls) -> Sequence["NextItem"]:
        random = np.random.default_rng(0)
        counts = random.integers(2, 12, size=60)
        steps = random.choice([1, 1, 1, 2, 7], size=counts.sum())  # mostly the next of 31 items
        values = np.concatenate([np.cumsum(each) for each in np.split(steps, np.cumsum(counts)[:-1])]) % 31
        events = Events(
            name="walk", values=values, offsets=np.concatenate([[0], np.cumsum(counts)]), labels=tuple(range(100, 131))
        )
        return [cls.of(events, length=6, negatives=20), cls.of(events, length=9, places=16, negatives=12)]

    def _ends(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where each user's items start, and where the input of a part stops: its target, if any, stands there."""
        start, stop = self.events.offsets[:-1], self.events.offsets[1:]
        left_out = {"train": 2, "valid": 2, "test": 1}[name]
        return start, stop - np.where(stop - start >= SHORTEST, left_out, 0)

    def _past(self, batch: Batch, *, left_out: int = 0) -> Tensor:
        """(rows, items), true for what each user had before the target, at any distance; less the user's last ones."""
        assert batch.rows is not None
        target = batch.rows.numpy()
        user = np.searchsorted(self.events.offsets, target, side="right") - 1
        start, stop = self.events.offsets[user], np.minimum(target, self.events.offsets[user + 1] - left_out)
        count = stop - start
        owner = np.repeat(np.arange(len(user)), count)
        at = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count) + start[owner]
        past = torch.zeros(len(user), self.space.vocabulary, dtype=torch.bool)
        past[torch.from_numpy(owner), torch.from_numpy(self.events.values[at])] = True
        return past

    def _rivals(self, batch: Batch) -> Tensor:
        """(rows, negatives) random items, not in the user's training part and not the target; the same in every run."""
        assert batch.rows is not None
        taken = self._past(batch, left_out=2).scatter_(1, batch.targets[:, None], True)
        user = np.searchsorted(self.events.offsets, batch.rows.numpy(), side="right").astype(np.uint64)
        draw = (user[:, None] << np.uint64(32)) + np.arange(self.negatives, dtype=np.uint64) * np.uint64(256)
        rivals = _random(draw) % np.uint64(self.space.vocabulary)
        for again in range(1, 256):
            bad = taken.gather(1, torch.from_numpy(rivals.astype(np.int64))).numpy()
            if not bad.any():
                break
            rivals[bad] = _random(draw[bad] + np.uint64(again)) % np.uint64(self.space.vocabulary)
        return torch.from_numpy(rivals.astype(np.int64))


def _random(number: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Whole numbers to random ones (the finaliser of SplitMix64): a draw depends on user and place, on nothing else."""
    number = (number + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    number = (number ^ (number >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    number = (number ^ (number >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return number ^ (number >> np.uint64(31))
