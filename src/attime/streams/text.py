"""Text as bytes, in a training and two held-out parts: one file, a folder, or the source of Python's own library."""

import hashlib
import platform
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from attime.errors import AttimeError
from attime.streams.contract import Stream, Traits, readable

__all__ = ["Corpus", "cut", "read_text", "standard_library"]

Bytes = NDArray[np.uint8]
UNREAD = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__", "node_modules"}


@final
@dataclass(frozen=True, kw_only=True)
class Corpus(Stream):
    """Bytes of text. `valid` and `test` may be the same bytes where the field has only one held-out part."""

    traits: ClassVar[Traits] = Traits(held_out=True)

    train: Bytes = field(repr=False, compare=False)
    valid: Bytes = field(repr=False, compare=False)
    test: Bytes = field(repr=False, compare=False)

    @property
    def about(self) -> str:
        sizes = f"{len(self.train):,} / {len(self.valid):,} / {len(self.test):,}"
        return f"{self.name}: text, {sizes} bytes for training / validation / test"

    @classmethod
    def examples(cls) -> Sequence["Corpus"]:
        content = " ".join(map(str, range(500))).encode()
        return [cut("numbers", content, edges=(0.8, 0.9)), cut("two-parts", content, edges=(0.9, 0.9))]


def read_text(path: str | Path, *, suffixes: Sequence[str] = (), held_out: float = 0.05) -> Corpus:
    """A corpus from a file (cut in its order) or from the text files of a folder (cut by file).

    `held_out` is the share of each of validation and test. In a folder a hash of the relative name decides where a file
    goes, so that adding files moves none; hidden and binary files, tests and installed packages are left out.
    """
    if not 0 < held_out < 0.5:
        raise AttimeError(f"read_text needs 0 < held_out < 0.5; got {held_out}.")
    path = Path(path).expanduser()
    if not path.is_dir():
        content = readable(path, "text").read_bytes()
        return cut(path.stem, content, edges=(1 - 2 * held_out, 1 - held_out))
    parts: tuple[list[bytes], ...] = ([], [], [])
    files = sorted(each for each in path.rglob("*") if _wanted(each.relative_to(path), suffixes) and each.is_file())
    for file in files:
        content = file.read_bytes()
        if b"\0" not in content[:8192]:
            parts[_part(file.relative_to(path).as_posix(), held_out)].append(content)
    if not any(parts):
        ending = f" ending in {', '.join(suffixes)}" if suffixes else ""
        raise AttimeError(f"text needs a folder with text files{ending}; {path} has none.")
    if not all(parts):  # too few files to hash
        content = b"".join(piece for part in parts for piece in part)
        return cut(path.name, content, edges=(1 - 2 * held_out, 1 - held_out))
    train, valid, test = (np.frombuffer(b"".join(part), np.uint8) for part in parts)
    return Corpus(name=path.name, train=train, valid=valid, test=test)


def standard_library() -> Corpus:
    """The source of the standard library of the running Python, without its tests: text that everybody has."""
    corpus = read_text(sysconfig.get_path("stdlib"), suffixes=(".py",), held_out=0.02)
    return Corpus(
        name=f"python-{platform.python_version()}-library", train=corpus.train, valid=corpus.valid, test=corpus.test
    )


def cut(name: str, content: bytes, *, edges: tuple[float, float]) -> Corpus:
    """A corpus of one text: training up to the first edge, validation between the edges, test from the second on.

    Equal edges mean one held-out part, used as both.
    """
    data = np.frombuffer(content, np.uint8)
    first, second = (int(len(data) * edge) for edge in edges)
    if first < 2 or second == len(data):
        raise AttimeError(f"text needs some hundred bytes at least; {name} has {len(data)}.")
    valid = data[first:second] if second > first else data[first:]
    return Corpus(name=name, train=data[:first], valid=valid, test=data[second:])


def _wanted(name: Path, suffixes: Sequence[str]) -> bool:
    if any(part in UNREAD or part.startswith(".") for part in name.parts):
        return False
    return not suffixes or name.suffix in suffixes


def _part(name: str, held_out: float) -> int:
    place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
    return 0 if place < 1 - 2 * held_out else 1 if place < 1 - held_out else 2
