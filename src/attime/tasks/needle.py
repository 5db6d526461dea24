"""A needle in a haystack: one key and its value somewhere in a long distracting past; at the end the key is asked for.

    noise noise [k v] noise ... noise [k' v'] noise ... noise k        at the last place: v

Source:  needle-in-a-haystack and RULER's single and multi-key forms, arXiv 2404.06654, here as tokens.
Differs: synthetic tokens; other keys with other values (`decoys`) lie in the same past, so that finding a value is not
         enough. `depth` is where the needle lies: 0 at the start, 1 just before the question, None anywhere.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor
from torch.nn import functional as F

from attime.errors import AttimeError
from attime.tasks.contract import Batch, Metric, Predictor, Task, Tokens
from attime.tasks.recall import METRICS
from attime.tasks.scores import certain, chance_of_tokens, tally_of_tokens

__all__ = ["Needle"]


@final
@dataclass(frozen=True, kw_only=True)
class Needle(Task):
    """One question about a long past (see the module docstring). The vocabulary is keys, then values, then noise."""

    metrics: ClassVar[tuple[Metric, ...]] = METRICS
    length: int = 256
    keys: int = 16
    values: int = 16
    noise: int = 32
    decoys: int = 3
    depth: float | None = None
    held_out: int = 1000
    """Samples in each held-out split."""

    def __post_init__(self) -> None:
        if self.decoys < 0 or self.keys <= self.decoys or self.values < 2 or self.noise < 1:
            raise AttimeError(
                f"Needle needs decoys >= 0, keys > decoys, values >= 2 and noise >= 1; got decoys={self.decoys}, "
                f"keys={self.keys}, values={self.values}, noise={self.noise}."
            )
        if self.length < 2 * (self.decoys + 1) + 1 or not 0 <= (self.depth or 0) <= 1:
            raise AttimeError(
                f"Needle needs length >= 2 (decoys + 1) + 1 = {2 * self.decoys + 3} and depth from 0 to 1; "
                f"got length={self.length}, depth={self.depth}."
            )

    @property
    def protocol(self) -> str:
        where = "anywhere" if self.depth is None else f"at-{self.depth:g}"
        kinds = f"{self.keys}-keys-{self.values}-values-{self.noise}-noise"
        return f"needle/{self.length}-tokens-{self.decoys}-decoys-{where}-{kinds}"

    @property
    def space(self) -> Tokens:
        return Tokens(vocabulary=self.keys + self.values + self.noise)

    def train(self, *, seed: int, batch: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            yield self._draw(batch, generator)

    def split(self, name: Literal["valid", "test"], *, batch: int = 32) -> Iterator[Batch]:
        whole = self._draw(self.held_out, torch.Generator().manual_seed(1_000_003 if name == "valid" else 1_000_033))
        for rows in torch.arange(self.held_out).split(batch):
            yield Batch(inputs=whole.inputs[rows], targets=whole.targets[rows], scored=whole.scored[rows], rows=rows)

    def floors(self) -> Mapping[str, Predictor]:
        return {"a value seen": self._any_value, "last value seen": self._last_value}

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs, batch.targets)

    def tally(self, outputs: Tensor, batch: Batch) -> Mapping[str, tuple[float, float]]:
        return tally_of_tokens(outputs, batch.targets)

    def oracle(self, batch: Batch) -> Tensor:
        """Looks the value up in the inputs: the token after the first place that holds the key."""
        first = (batch.inputs == batch.inputs[:, -1:]).to(torch.int8).argmax(dim=1, keepdim=True)
        after = (first + 1).clamp(max=self.length - 1)
        return certain(batch.inputs.gather(1, after)[:, 0], self.space.vocabulary)

    def chance(self) -> Mapping[str, float]:
        return chance_of_tokens(self.space.vocabulary)

    @classmethod
    def examples(cls) -> Sequence["Needle"]:
        return [
            cls(length=21, keys=5, values=6, noise=4, decoys=2, held_out=45),
            cls(length=12, keys=3, values=4, noise=3, decoys=0, depth=0.5, held_out=20),
        ]

    def _draw(self, rows: int, generator: torch.Generator) -> Batch:
        pairs = self.decoys + 1
        keys = torch.rand(rows, self.keys, generator=generator).topk(pairs, dim=1).indices
        values = self.keys + torch.randint(self.values, (rows, pairs), generator=generator)
        inputs = self.keys + self.values + torch.randint(self.noise, (rows, self.length), generator=generator)
        # Draw pairs as single slots among length - 1 - pairs, then widen each to two tokens: they never overlap.
        slots = self.length - 1 - pairs
        order = torch.rand(rows, slots, generator=generator)
        if self.depth is not None:
            order[:, round(self.depth * (slots - 1))] = 2.0  # the needle is drawn first, there
        drawn = order.topk(pairs, dim=1).indices
        places = drawn + drawn.argsort(dim=1).argsort(dim=1)
        inputs.scatter_(1, places, keys).scatter_(1, places + 1, values)
        inputs[:, -1] = keys[:, 0]
        scored = torch.zeros(rows, self.length, dtype=torch.bool)
        scored[:, -1] = True
        return Batch(inputs=inputs, targets=values[:, 0], scored=scored)

    def _seen(self, inputs: Tensor) -> Tensor:
        return (inputs >= self.keys) & (inputs < self.keys + self.values)

    def _any_value(self, batch: Batch) -> Tensor:
        logits = torch.full((len(batch.inputs), self.space.vocabulary + 1), -50.0)
        values = torch.where(self._seen(batch.inputs), batch.inputs, self.space.vocabulary)
        return logits.scatter_(1, values, 0.0)[:, :-1]

    def _last_value(self, batch: Batch) -> Tensor:
        places = torch.arange(self.length).expand_as(batch.inputs)
        latest = torch.where(self._seen(batch.inputs), places, 0).amax(dim=1, keepdim=True)
        return certain(batch.inputs.gather(1, latest)[:, 0], self.space.vocabulary)
