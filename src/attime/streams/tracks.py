"""Tracks: where each of many moving things was, at the frames of some recordings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from attime.errors import AttimeError
from attime.streams.contract import Stream, Traits, readable

__all__ = ["Tracks", "read_tracks"]


@final
@dataclass(frozen=True, kw_only=True)
class Tracks(Stream):
    """One row per thing and frame. `recordings[recording[row]]` is the name of the recording."""

    traits: ClassVar[Traits] = Traits(moving=True)

    recordings: tuple[str, ...]
    recording: NDArray[np.int64] = field(repr=False, compare=False)
    frame: NDArray[np.int64] = field(repr=False, compare=False)
    walker: NDArray[np.int64] = field(repr=False, compare=False)
    place: NDArray[np.float64] = field(repr=False, compare=False)
    """(rows, 2), in metres."""

    @property
    def about(self) -> str:
        return f"{self.name}: {len(self.frame):,} positions in {len(self.recordings)} recordings"

    def windows(self, recording: str, length: int) -> NDArray[np.float64]:
        """(walks, length, 2): everybody who is there in all of `length` consecutive recorded frames, stride one frame."""
        if recording not in self.recordings:
            raise AttimeError(f"{self.name} has no recording {recording!r}; it has {', '.join(self.recordings)}.")
        here = self.recording == self.recordings.index(recording)
        frame = np.unique(self.frame[here], return_inverse=True)[1]
        walker, place = self.walker[here], self.place[here]
        order = np.lexsort((frame, walker))
        frame, walker, place = frame[order], walker[order], place[order]
        last = len(frame) - length + 1
        if last <= 0:
            return np.zeros((0, length, 2))
        whole = (walker[length - 1 :] == walker[:last]) & (frame[length - 1 :] - frame[:last] == length - 1)
        starts = np.flatnonzero(whole)
        starts = starts[np.argsort(frame[starts], kind="stable")]
        return place[starts[:, None] + np.arange(length)]

    @classmethod
    def examples(cls) -> Sequence["Tracks"]:
        recording, step, walker = (each.ravel() for each in np.indices((2, 6, 2)))
        place = np.stack([step + recording, 0.5 * walker], axis=1)
        frame = 10 * step
        return [cls(name="walk", recordings=("a", "b"), recording=recording, frame=frame, walker=walker, place=place)]


def read_tracks(name: str, files: Mapping[str, str | Path]) -> Tracks:
    """Tracks from text files of `frame walker x y` lines, one per recording (the layout of Social GAN)."""
    parts = []
    for number, (recording, file) in enumerate(files.items()):
        path = readable(file, "tracks")
        try:
            rows = np.loadtxt(path, ndmin=2)
        except ValueError as error:
            raise AttimeError(
                f"tracks need lines of `frame walker x y`; {path.name} of {recording}: {error}."
            ) from None
        if rows.shape[1] != 4 or not np.isfinite(rows).all():
            raise AttimeError(
                f"tracks need four finite numbers on every line, `frame walker x y`; {path.name} of {recording} has "
                f"{rows.shape[1]} columns."
            )
        parts.append(np.column_stack([np.full(len(rows), number), rows]))
    table = np.concatenate(parts)
    whole = table[:, :3].round().astype(np.int64)
    return Tracks(
        name=name,
        recordings=tuple(files),
        recording=whole[:, 0],
        frame=whole[:, 1],
        walker=whole[:, 2],
        place=table[:, 3:],
    )
