"""The kind of the next event: a badge, a diagnosis, an order, after all that happened before, with times where known.

Protocol: every event of a held-out sequence but its first is predicted once, from its true past. Where the source says which
          sequences are the test, those are; a tenth of the others is the validation. Elsewhere a random tenth each.
Source:   RMTPP (KDD 2016) and its data (Stack Overflow, MIMIC-II; split 1 of 5).
Floors:   the most frequent kind, and Witten-Bell transitions from the last one and the last two kinds. They stand one or
          two points under published neural models, and one split cannot tell half a point.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from attime.errors import AttimeError
from attime.streams.contract import TEST, TRAIN, VALID
from attime.streams.events import Events
from attime.streams.public import public
from attime.tasks.contract import Batch, Metric, Predictor, Task, Tokens
from attime.tasks.scores import certain, chance_of_tokens, tally_of_tokens
from attime.tasks.witten_bell import UNKNOWN, Counts, counted, witten_bell

__all__ = ["NextEvent"]


@final
@dataclass(frozen=True, kw_only=True)
class NextEvent(Task):
    """Kinds of events in sequences (see the module docstring). In training a longer one is cut to `length` events."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="accuracy", unit="accuracy", better="higher"),
        Metric(name="nats", unit="nats per event", better="lower"),
    )
    events: Events = field(repr=False)
    length: int = 128

    def __post_init__(self) -> None:
        counts = np.diff(self.events.offsets)
        for part, name in ((TRAIN, "training"), (VALID, "validation"), (TEST, "test")):
            if not (counts[self._part() == part] >= 2).any() or self.length < 1:
                raise AttimeError(
                    f"NextEvent needs length >= 1 and in each part a sequence of two events or more; got "
                    f"length={self.length} and none for {name} in {self.events.about}: give more sequences."
                )

    @classmethod
    def of(cls, events: Events, *, length: int = 128) -> "NextEvent":
        """The task on any event sequences."""
        return cls(events=events, length=length)

    @classmethod
    def public(cls, name: str = "stackoverflow", *, length: int = 128) -> "NextEvent":
        """The task on a public data set."""
        events = public(name)
        if not isinstance(events, Events):
            raise AttimeError(f"NextEvent needs events; {name} is not: take stackoverflow or mimic2.")
        return cls(events=events, length=length)

    @property
    def protocol(self) -> str:
        return f"{self.events.name}/next-event"

    @property
    def space(self) -> Tokens:
        return Tokens(vocabulary=len(self.events.labels))

    def train(self, *, seed: int, batch: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed)
        rows, order = self._rows(TRAIN), torch.zeros(0, dtype=torch.long)
        while True:
            while len(order) < batch:
                order = torch.cat([order, rows[torch.randperm(len(rows), generator=generator)]])
            chosen, order = order[:batch], order[batch:]
            first, last = (
                torch.from_numpy(self.events.offsets)[chosen],
                torch.from_numpy(self.events.offsets)[chosen + 1],
            )
            spare = (last - first - 1 - self.length).clamp(min=0)
            first = first + (torch.rand(batch, generator=generator) * (spare + 1)).long()
            yield self._batch(first, torch.minimum(last, first + self.length + 1), None)

    def split(self, name: Literal["valid", "test"], *, batch: int = 32) -> Iterator[Batch]:
        offsets = torch.from_numpy(self.events.offsets)
        for rows in self._rows(VALID if name == "valid" else TEST).split(batch):
            yield self._batch(offsets[rows], offsets[rows + 1], rows)

    def floors(self) -> Mapping[str, Predictor]:
        tables: list[Counts] = []  # filled when first needed, shared
        names = ("most frequent", "after the last", "after the last two")
        return {name: partial(self._after, tables=tables, before=before) for before, name in enumerate(names)}

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs, batch.targets)

    def tally(self, outputs: Tensor, batch: Batch) -> Mapping[str, tuple[float, float]]:
        return tally_of_tokens(outputs, batch.targets)

    def oracle(self, batch: Batch) -> Tensor:
        return certain(batch.targets, self.space.vocabulary)

    def chance(self) -> Mapping[str, float]:
        return chance_of_tokens(self.space.vocabulary)

    def reading(self) -> Mapping[str, Any]:
        return {"kind": "tokens", "labels": list(self.events.labels)}

    @classmethod
    def examples(cls) -> Sequence["NextEvent"]:
        random = np.random.default_rng(0)
        counts = random.integers(1, 15, size=80)
        values = np.concatenate([np.cumsum(random.choice([1, 1, 1, 3], size=count)) for count in counts]) % 7
        offsets = np.concatenate([[0], np.cumsum(counts)])
        when = np.concatenate([np.cumsum(random.exponential(60.0, size=count)) for count in counts])
        part = np.where(np.arange(80) % 4 == 0, TEST, TRAIN).astype(np.int8)
        walk = Events(name="walk", values=values, offsets=offsets, labels=tuple("abcdefg"))
        timed = Events(name="timed", values=values, offsets=offsets, labels=tuple("abcdefg"), when_s=when, part=part)
        return [cls.of(walk, length=6), cls.of(timed, length=9)]

    def _part(self) -> NDArray[np.int8]:
        """The part of each sequence."""
        number = np.arange(len(self.events.offsets) - 1)
        if self.events.part is None:
            order = np.random.default_rng(0).permutation(len(number)) % 10
            return np.select([order == 8, order == 9], [VALID, TEST], TRAIN).astype(np.int8)
        if (self.events.part == VALID).any():
            return self.events.part
        return np.where((self.events.part == TRAIN) & (number % 10 == 9), VALID, self.events.part).astype(np.int8)

    def _rows(self, part: int) -> Tensor:
        """Sequences of a part in which there is something to predict."""
        return torch.from_numpy(np.flatnonzero((self._part() == part) & (np.diff(self.events.offsets) >= 2)))

    def _batch(self, first: Tensor, last: Tensor, rows: Tensor | None) -> Batch:
        count = last - first - 1
        time = torch.arange(int(count.max()))
        valid = time < count[:, None]
        at = torch.where(valid, first[:, None] + time, (last - 2)[:, None])  # padding repeats the last time stamp
        values = torch.from_numpy(self.events.values)
        when = None if self.events.when_s is None else torch.from_numpy(self.events.when_s)[at]
        return Batch(
            inputs=values[at] * valid, targets=values[at + 1][valid], scored=valid, valid=valid, when_s=when, rows=rows
        )

    def _after(self, batch: Batch, *, tables: list[Counts], before: int) -> Tensor:
        """Log-probabilities by counting what follows the last `before` kinds."""
        kinds = self.space.vocabulary
        while len(tables) <= before:
            tables.append(self._counted(len(tables)))
        inputs = batch.inputs.numpy()
        previous = np.full_like(inputs, UNKNOWN)
        previous[:, 1:] = inputs[:, :-1]
        pairs = np.where(previous < 0, UNKNOWN, previous * kinds + inputs)
        places = batch.scored.numpy()
        contexts = (np.zeros_like(inputs), inputs, pairs)[: before + 1]
        chances = witten_bell(tables[: before + 1], [context[places] for context in contexts], kinds)
        return torch.from_numpy(chances).log()

    def _counted(self, before: int) -> Counts:
        """Counts over the training sequences of each kind after the `before` kinds before it, the first event too."""
        values, offsets, kinds = self.events.values, self.events.offsets, self.space.vocabulary
        owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        place = np.arange(len(values)) - offsets[owner]
        here = (self._part()[owner] == TRAIN) & (place >= before)
        at = np.flatnonzero(here)
        contexts = (lambda: np.zeros_like(at), lambda: values[at - 1], lambda: values[at - 2] * kinds + values[at - 1])
        return counted(contexts[before](), values[at], kinds)
