"""Sounds: recordings of one rate, end to end, each with a label."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from attime.errors import AttimeError
from attime.streams.contract import Stream, Traits, readable

__all__ = ["Sounds", "read_sounds"]


@final
@dataclass(frozen=True, kw_only=True)
class Sounds(Stream):
    """Samples of all recordings; recording i is `samples[offsets[i]:offsets[i + 1]]`."""

    traits: ClassVar[Traits] = Traits(sequences=True)

    samples: NDArray[np.int16] = field(repr=False, compare=False)
    offsets: NDArray[np.int64] = field(repr=False, compare=False)
    rate: int
    label: NDArray[np.int64] = field(repr=False, compare=False)
    speaker: NDArray[np.int64] = field(repr=False, compare=False)
    take: NDArray[np.int64] = field(repr=False, compare=False)
    speakers: tuple[str, ...]

    @property
    def about(self) -> str:
        length = len(self.samples) / self.rate
        return f"{self.name}: {len(self.label):,} recordings, {length:,.0f} s at {self.rate} Hz"

    @classmethod
    def examples(cls) -> Sequence["Sounds"]:
        tone = (8000 * np.sin(np.arange(1000) * 2 * np.pi * 440 / 8000)).astype(np.int16)
        one, two = np.array([0, 1]), np.array([0, 0])
        offsets = np.array([0, 400, 1000])
        return [
            cls(
                name="tone", samples=tone, offsets=offsets, rate=8000, label=one, speaker=two, take=one, speakers=("a",)
            )
        ]


def read_sounds(path: str | Path) -> Sounds:
    """Sounds from an `.npz` with samples, offsets, rate, digit, speaker, take and speaker_names."""
    path = readable(path, "sounds")
    try:
        stored = np.load(path)
        digit, speaker, take = (stored[name].astype(np.int64) for name in ("digit", "speaker", "take"))
        return Sounds(
            name=path.stem,
            samples=stored["samples"],
            offsets=stored["offsets"].astype(np.int64),
            rate=int(stored["rate"]),
            label=digit,
            speaker=speaker,
            take=take,
            speakers=tuple(stored["speaker_names"].tolist()),
        )
    except (KeyError, ValueError, OSError) as error:
        raise AttimeError(
            f"sounds need an .npz with samples, offsets, rate, digit, speaker, take, speaker_names; {path.name}: {error}."
        ) from None
