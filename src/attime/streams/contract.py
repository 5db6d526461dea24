"""What a stream is: data with time, as a small frozen object of arrays. Readers are functions that return one."""

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from attime.errors import AttimeError
from attime.part import Part

__all__ = ["TEST", "TRAIN", "VALID", "Stream", "Traits", "readable"]

TRAIN, VALID, TEST = 0, 1, 2  # in arrays that say to which part a row belongs


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a stream claims; each claim is checked by a law."""

    sequences: bool = False
    """Its first array holds many sequences end to end, cut by `offsets`."""
    clock: bool = False
    """May have `when_s`, the time in seconds of every entry of its first array."""
    split: bool = False
    """May have `part`, which says of every sequence whether it is for training, validation or test."""
    held_out: bool = False
    """Has `train`, `valid` and `test`, arrays of one kind."""
    scenes: bool = False
    """Is a procedural world: any part of it is made when asked for, with its truth."""
    moving: bool = False
    """One row per thing and frame, in any order: `recording`, `frame`, `walker` and `place`."""


@dataclass(frozen=True, kw_only=True)
class Stream(Part):
    """Data with time. `name` goes into protocol names, so that results of different data are not mixed up.

    Arrays of many sequences lie end to end: sequence i is `values[offsets[i]:offsets[i + 1]]`.
    """

    traits: ClassVar[Traits] = Traits()

    name: str

    @property
    @abstractmethod
    def about(self) -> str:
        """What it holds, in a few words and numbers."""


def readable(path: str | Path, what: str) -> Path:
    """`path` as a Path, or an AttimeError if there is no such file or nothing in it."""
    path = Path(path).expanduser()
    if not path.exists():
        raise AttimeError(f"{what} needs a file that exists; there is no {path}: check the path.")
    if path.is_dir():
        raise AttimeError(f"{what} needs one file; {path} is a folder: name a file in it.")
    if path.stat().st_size == 0:
        raise AttimeError(f"{what} needs a file with data; {path} is empty.")
    return path
