"""What a stream is: data with time, as a small frozen object of arrays. Readers are functions that return one."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from attime.errors import AttimeError

__all__ = ["TEST", "TRAIN", "VALID", "Stream", "readable"]

TRAIN, VALID, TEST = 0, 1, 2  # in arrays that say to which part a row belongs


@dataclass(frozen=True, kw_only=True)
class Stream(ABC):
    """Data with time. `name` goes into protocol names, so that results of different data are not mixed up.

    Arrays of many sequences lie end to end: sequence i is `values[offsets[i]:offsets[i + 1]]`.
    """

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
