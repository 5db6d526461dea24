"""Associative recall with many queries (MQAR): key-value pairs first, then keys whose values must be named.

    k1 v1 k2 v2 ... kD vD | noise k2 noise noise k1 noise ...        at each k asked for: its v

Source:  Zoology, arXiv 2312.04927, sec. 4 and its public data code.
Names:   `pairs` is their num_kv_pairs; `power` their power_a: pairs are asked for after gaps with a power-law tail.
Differs: 64 tokens of 64 kinds instead of up to 512 of 8192, so that it trains in a minute on a CPU; no key is 0.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor
from torch.nn import functional as F

from attime.errors import AttimeError
from attime.tasks.contract import Batch, Metric, Predictor, Task, Tokens
from attime.tasks.scores import certain, chance_of_tokens, tally_of_tokens

__all__ = ["Recall"]

METRICS = (
    Metric(name="accuracy", unit="accuracy", better="higher"),
    Metric(name="nats", unit="nats", better="lower"),
)


@final
@dataclass(frozen=True, kw_only=True)
class Recall(Task):
    """Recall of values by keys (see the module docstring). Keys are the first half of the vocabulary, values the second."""

    metrics: ClassVar[tuple[Metric, ...]] = METRICS
    length: int = 64
    vocabulary: int = 64
    pairs: int = 8
    power: float = 0.01
    held_out: int = 1000
    """Samples in each held-out split."""

    def __post_init__(self) -> None:
        if self.pairs < 1 or self.length < 4 * self.pairs or self.vocabulary < 2 * self.pairs + 2 or self.length % 2:
            raise AttimeError(
                f"Recall needs an even length >= 4 pairs, vocabulary >= 2 pairs + 2 and pairs >= 1; "
                f"got length={self.length}, vocabulary={self.vocabulary}, pairs={self.pairs}."
            )

    @property
    def protocol(self) -> str:
        return f"recall/{self.pairs}-pairs-{self.length}-tokens-{self.vocabulary}-kinds"

    @property
    def space(self) -> Tokens:
        return Tokens(vocabulary=self.vocabulary)

    def train(self, *, seed: int, batch: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            yield self._draw(batch, generator)

    def split(self, name: Literal["valid", "test"], *, batch: int = 32) -> Iterator[Batch]:
        whole = self._draw(self.held_out, torch.Generator().manual_seed(1_000_003 if name == "valid" else 1_000_033))
        targets = whole.targets.unflatten(0, (-1, self.pairs))
        for rows in torch.arange(self.held_out).split(batch):
            yield Batch(
                inputs=whole.inputs[rows], targets=targets[rows].flatten(), scored=whole.scored[rows], rows=rows
            )

    def floors(self) -> Mapping[str, Predictor]:
        return {"a value seen": self._any_value, "last value seen": self._last_value}

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs, batch.targets)

    def tally(self, outputs: Tensor, batch: Batch) -> Mapping[str, tuple[float, float]]:
        return tally_of_tokens(outputs, batch.targets)

    def oracle(self, batch: Batch) -> Tensor:
        """Looks the value up in the inputs: the answer is there."""
        keys, values, queries, row = self._read(batch)
        found = (keys[row] == queries[:, None]).to(torch.int8).argmax(dim=1)
        return certain(values[row].gather(1, found[:, None])[:, 0], self.vocabulary)

    def chance(self) -> Mapping[str, float]:
        return chance_of_tokens(self.vocabulary)

    @classmethod
    def examples(cls) -> Sequence["Recall"]:
        return [
            cls(length=24, vocabulary=20, pairs=3, held_out=45),
            cls(length=16, vocabulary=34, pairs=4, power=1.0, held_out=20),
        ]

    def _draw(self, rows: int, generator: torch.Generator) -> Batch:
        half, start = self.vocabulary // 2, 2 * self.pairs
        keys = 1 + torch.rand(rows, half - 1, generator=generator).topk(self.pairs, dim=1).indices
        values = half + torch.rand(rows, self.vocabulary - half, generator=generator).topk(self.pairs, dim=1).indices
        slots = torch.arange(1, (self.length - start) // 2 + 1, dtype=torch.float64) ** (self.power - 1)
        gaps = torch.multinomial(slots.expand(rows, -1), self.pairs, generator=generator)  # one slot per pair
        inputs = torch.randint(self.vocabulary, (rows, self.length), generator=generator)
        inputs[:, 0:start:2], inputs[:, 1:start:2] = keys, values
        places = start + 2 * gaps
        inputs.scatter_(1, places, keys)
        scored = torch.zeros(rows, self.length, dtype=torch.bool).scatter_(1, places, True)
        return Batch(inputs=inputs, targets=values.gather(1, places.argsort(dim=1)).flatten(), scored=scored)

    def _read(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Keys and values of every row; the key asked for and the row at every scored place."""
        start = 2 * self.pairs
        row = batch.scored.nonzero()[:, 0]
        return batch.inputs[:, 0:start:2], batch.inputs[:, 1:start:2], batch.inputs[batch.scored], row

    def _any_value(self, batch: Batch) -> Tensor:
        _, values, _, row = self._read(batch)
        logits = torch.full((len(row), self.vocabulary), -50.0)
        return logits.scatter_(1, values[row], 0.0)

    def _last_value(self, batch: Batch) -> Tensor:
        """The most recent token that can be a value, before each place asked for (noise may be one)."""
        length = batch.inputs.shape[1]
        places = torch.arange(length).expand_as(batch.inputs)
        latest = torch.where(batch.inputs >= self.vocabulary // 2, places, 0).cummax(dim=1).values
        value = batch.inputs.gather(1, latest)[batch.scored]
        return certain(value, self.vocabulary)
