"""The next note of a chorale: four voices, a note each at every sixteenth, read from the top voice to the bass.

Protocol: the note-wise negative log-likelihood in nats, over all voices and sixteenths of the held-out pieces (229 / 76 / 77
          pieces), each note predicted once from all notes before it. The token of a pitch is its place in the range of
          pitches; 0 is a rest, and the last token starts a piece.
Source:   the JSB chorales (N. Boulanger-Lewandowski and others, ICML 2012) on a grid of sixteenths with separate voices, as
          used by Coconet and Music Transformer, arXiv 1809.04281 (which reports 0.335 on the validation pieces).
Floors:   Witten-Bell counts per voice of the pitch alone, after the pitch before it, and after the pitch before it with the
          place in the quarter note and whether that pitch was held.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from attime.errors import AttimeError
from attime.streams.contract import TEST, TRAIN, VALID
from attime.streams.music import Pieces
from attime.streams.public import public
from attime.tasks.contract import Batch, Metric, Predictor, Task, Tokens
from attime.tasks.scores import certain, chance_of_tokens, tally_of_tokens
from attime.tasks.witten_bell import UNKNOWN, Counts, counted, witten_bell

__all__ = ["Chorales"]

QUARTER = 4  # sixteenths


@final
@dataclass(frozen=True, kw_only=True)
class Chorales(Task):
    """Notes of pieces in several voices (see the module docstring). Training reads `steps` sixteenths at a time."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="nats", unit="nats per note", better="lower"),
        Metric(name="accuracy", unit="accuracy", better="higher"),
    )
    pieces: Pieces = field(repr=False)
    steps: int = 64

    def __post_init__(self) -> None:
        parts = {int(part) for part in self.pieces.part}
        if self.steps < 1 or parts != {TRAIN, VALID, TEST}:
            raise AttimeError(
                f"Chorales needs steps >= 1 and pieces in each part; got steps={self.steps} and {self.pieces.about} in "
                f"{len(parts)} parts."
            )

    @classmethod
    def of(cls, pieces: Pieces, *, steps: int = 64) -> "Chorales":
        """The task on any pieces."""
        return cls(pieces=pieces, steps=steps)

    @classmethod
    def public(cls, name: str = "jsb", *, steps: int = 64) -> "Chorales":
        """The task on the chorales of J. S. Bach."""
        pieces = public(name)
        if not isinstance(pieces, Pieces):
            raise AttimeError(f"Chorales needs pieces of music; {name} is not: take jsb.")
        return cls(pieces=pieces, steps=steps)

    @property
    def protocol(self) -> str:
        return f"{self.pieces.name}/notes"

    @property
    def space(self) -> Tokens:
        return Tokens(vocabulary=int(self._tokens().max()) + 2)

    def train(self, *, seed: int, batch: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed)
        rows, order = self._rows(TRAIN), torch.zeros(0, dtype=torch.long)
        tokens, offsets = self._flat()
        while True:
            while len(order) < batch:
                order = torch.cat([order, rows[torch.randperm(len(rows), generator=generator)]])
            chosen, order = order[:batch], order[batch:]
            first, last = offsets[chosen], offsets[chosen + 1]
            spare = (last - first - self.steps).clamp(min=0)
            begin = first + (torch.rand(batch, generator=generator) * (spare + 1)).long()
            yield self._batch(tokens, first, begin, torch.minimum(last, begin + self.steps), None)

    def split(self, name: Literal["valid", "test"], *, batch: int = 32) -> Iterator[Batch]:
        tokens, offsets = self._flat()
        for rows in self._rows(VALID if name == "valid" else TEST).split(batch):
            yield self._batch(tokens, offsets[rows], offsets[rows], offsets[rows + 1], rows)

    def floors(self) -> Mapping[str, Predictor]:
        tables: list[Counts] = []  # filled when first needed, shared
        names = ("pitch of the voice", "after the last pitch", "after the last pitch, beat and hold")
        return {name: partial(self._after, tables=tables, level=level) for level, name in enumerate(names)}

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs, batch.targets)

    def tally(self, outputs: Tensor, batch: Batch) -> Mapping[str, tuple[float, float]]:
        return tally_of_tokens(outputs, batch.targets)

    def oracle(self, batch: Batch) -> Tensor:
        return certain(batch.targets, self.space.vocabulary)

    def chance(self) -> Mapping[str, float]:
        return chance_of_tokens(self.space.vocabulary)

    @classmethod
    def examples(cls) -> Sequence["Chorales"]:
        random = np.random.default_rng(0)
        lengths = random.integers(5, 30, size=24)
        moves = random.choice([-2, 0, 0, 0, 1], size=(int(lengths.sum()), 2)).cumsum(axis=0)
        pieces = Pieces(
            name="walk",
            pitches=60 + moves % 7 - np.array([0, 12]),
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
            part=np.repeat([TRAIN, VALID, TEST], 8).astype(np.int8),
        )
        return [cls.of(pieces, steps=6), cls.of(pieces, steps=40)]

    def _tokens(self) -> NDArray[np.int64]:
        """(steps, voices): 0 for a rest, then pitches from the lowest on."""
        pitches = self.pieces.pitches
        return np.where(pitches < 0, 0, pitches - pitches[pitches >= 0].min() + 1)

    def _rows(self, part: int) -> Tensor:
        return torch.from_numpy(np.flatnonzero(self.pieces.part == part))

    def _flat(self) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self._tokens()).flatten(), torch.from_numpy(self.pieces.offsets)

    def _batch(self, tokens: Tensor, first: Tensor, begin: Tensor, end: Tensor, rows: Tensor | None) -> Batch:
        """Notes from step `begin` to `end` of pieces that start at step `first`."""
        voices = self.pieces.pitches.shape[1]
        count = (end - begin) * voices
        time = torch.arange(int(count.max()))
        valid = time < count[:, None]
        at = torch.where(valid, (begin * voices)[:, None] + time, (end * voices - 1)[:, None])
        start = at == (first * voices)[:, None]
        inputs = torch.where(start, int(tokens.max()) + 1, tokens[(at - 1).clamp(min=0)])
        return Batch(inputs=inputs * valid, targets=tokens[at][valid], scored=valid, valid=valid, rows=rows)

    def _after(self, batch: Batch, *, tables: list[Counts], level: int) -> Tensor:
        """Log-probabilities by counting, for batches that start where pieces start."""
        notes = self.space.vocabulary
        if not tables:
            tokens = self._tokens()
            place = np.arange(len(tokens)) - np.repeat(self.pieces.offsets[:-1], np.diff(self.pieces.offsets))
            train = np.repeat(self.pieces.part == TRAIN, np.diff(self.pieces.offsets))
            levels = _contexts(_shifted(tokens, place, 1), _shifted(tokens, place, 2), place, notes)
            tables.extend(counted(each[train].ravel(), tokens[train].ravel(), notes) for each in levels)
        voices = self.pieces.pitches.shape[1]
        inputs = batch.inputs.numpy()
        padded = np.concatenate([np.full((len(inputs), 2 * voices), UNKNOWN), inputs], axis=1)
        padded[padded == notes - 1] = UNKNOWN  # the start is nobody's note
        time = inputs.shape[1]
        last, last_but_one = padded[:, voices + 1 : voices + 1 + time], padded[:, 1 : 1 + time]
        shape = (len(inputs) * time // voices, voices)
        place = np.tile(np.arange(time // voices), len(inputs))
        levels = _contexts(last.reshape(shape), last_but_one.reshape(shape), place, notes)[: level + 1]
        scored = batch.scored.numpy().ravel()
        return torch.from_numpy(
            witten_bell(tables[: level + 1], [each.ravel()[scored] for each in levels], notes)
        ).log()


def _shifted(tokens: NDArray[np.int64], place: NDArray[np.int64], steps: int) -> NDArray[np.int64]:
    """The same voice's note `steps` before, unknown before the piece."""
    moved = np.full_like(tokens, UNKNOWN)
    moved[steps:] = tokens[:-steps]
    moved[place < steps] = UNKNOWN
    return moved


def _contexts(
    last: NDArray[np.int64], last_but_one: NDArray[np.int64], place: NDArray[np.int64], notes: int
) -> tuple[NDArray[np.int64], ...]:
    """(steps, voices) contexts: the voice; with the last note; with the place in the quarter and whether it was held."""
    voice = np.broadcast_to(np.arange(last.shape[1]), last.shape)
    after = np.where(last < 0, UNKNOWN, voice * notes + last)
    held = (last == last_but_one).astype(np.int64)
    return voice, after, np.where(last < 0, UNKNOWN, (after * QUARTER + place[:, None] % QUARTER) * 2 + held)
