"""Music on a grid of time: the pitch of each voice at every step."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from attime.errors import AttimeError
from attime.streams.contract import TEST, TRAIN, VALID, Stream, Traits, readable

__all__ = ["Pieces", "read_pieces"]


@final
@dataclass(frozen=True, kw_only=True)
class Pieces(Stream):
    """MIDI pitches (steps, voices) of all pieces end to end; -1 is a rest."""

    traits: ClassVar[Traits] = Traits(sequences=True, split=True)

    pitches: NDArray[np.int64] = field(repr=False, compare=False)
    offsets: NDArray[np.int64] = field(repr=False, compare=False)
    part: NDArray[np.int8] = field(repr=False, compare=False)
    """For each piece TRAIN, VALID or TEST."""

    @property
    def about(self) -> str:
        steps, voices = self.pitches.shape
        return f"{self.name}: {len(self.part)} pieces, {steps:,} steps of {voices} voices"

    @classmethod
    def examples(cls) -> Sequence["Pieces"]:
        scale = np.array([60, 62, 64, 65, 67, 69, 71, 72])
        pitches = np.stack([scale, scale - 12, np.where(scale % 2, -1, scale - 24)], axis=1)
        part = np.array([TRAIN, VALID, TEST], np.int8)
        return [cls(name="scales", pitches=pitches, offsets=np.array([0, 4, 6, 8]), part=part)]


def read_pieces(path: str | Path) -> Pieces:
    """Pieces from JSON: {"train": [piece, ...], "valid": ..., "test": ...}, a piece a list of steps, a step of pitches."""
    path = readable(path, "music")
    try:
        parts = json.loads(path.read_text())
        pieces = [np.asarray(piece) for name in ("train", "valid", "test") for piece in parts[name]]
        part = np.repeat([TRAIN, VALID, TEST], [len(parts[name]) for name in ("train", "valid", "test")])
        pitches = np.concatenate(pieces)
    except (ValueError, KeyError, TypeError) as error:
        raise AttimeError(
            f"music needs JSON with train, valid and test, each a list of pieces (steps, voices); {path.name}: {error}."
        ) from None
    if pitches.ndim != 2 or pitches.min() < -1 or pitches.max() > 127:
        raise AttimeError(
            f"music needs pieces (steps, voices) of MIDI pitches 0 to 127 and -1 for a rest; {path.name} has sizes "
            f"{pitches.shape} and values {pitches.min()} to {pitches.max()}."
        )
    return Pieces(
        name=path.stem,
        pitches=pitches.round().astype(np.int64),
        offsets=np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])]),
        part=part.astype(np.int8),
    )
