"""What `attime compare --memory` is given by name: policies, a text, and the folder that it writes to."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from attime.errors import AttimeError
from attime.memory.named import find_policy
from attime.report import write_page
from attime.streams.text import standard_library
from attime.tasks.result import Comparison

__all__ = ["PAGE", "named", "results_folder", "text_of", "written"]

DATA, PAGE = "memories.json", "memories.html"


def named(options: argparse.Namespace, default: Sequence[str]) -> tuple[Sequence[str], str | None]:
    """The policies, and the text; it may stand behind the last policy."""
    names, file = list(options.memory), options.file
    if file is None and names and Path(names[-1]).expanduser().is_file():
        file = names.pop()
    elif file is None and names and not set("=(+") & set(names[-1]):
        try:
            find_policy(names[-1])
        except AttimeError as error:
            raise AttimeError(f"there is no text file {names[-1]!r} and no such policy: {error}") from None
    return list(dict.fromkeys(names)) or default, file


def results_folder(name: str) -> Path:
    """The folder of the results, which can be written to."""
    folder = Path(name).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        for file in (DATA, PAGE):
            if (folder / file).exists():
                (folder / file).open("ab").close()
    except OSError as error:
        raise AttimeError(
            f"compare --memory needs an --out that is a folder and can be written to; {name}: {error.strerror}."
        ) from None
    return folder


def written(result: Comparison, folder: Path) -> str | None:
    """Write the results as a file and as a page; why that could not be."""
    try:
        result.save(folder / DATA)
        write_page(result, folder / PAGE)
    except OSError as error:
        return error.strerror
    return None


def text_of(file: str | None) -> tuple[str, bytes]:
    """What the text is, in words, and the text; without a file held-out files of Python's own library."""
    if file is None:
        return "held-out files of the source of Python's standard library", standard_library().test.tobytes()
    try:
        return file, Path(file).expanduser().read_bytes()
    except OSError as error:
        raise AttimeError(f"compare --memory needs a text file that can be read; {file}: {error.strerror}.") from None
