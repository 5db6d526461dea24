"""Public data sets by name. Nothing is shipped: files come from $ATTIME_DATA, or from their origin into a cache.

Every file is checked against its SHA-256. Licences differ and some forbid passing the data on: see `sources.py`.
"""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from attime.errors import AttimeError, MissingData
from attime.streams.contract import TEST, TRAIN, Stream
from attime.streams.events import Events, read_events
from attime.streams.music import read_pieces
from attime.streams.series import Series
from attime.streams.sounds import read_sounds
from attime.streams.sources import SOURCES, File
from attime.streams.text import cut
from attime.streams.tracks import read_tracks

__all__ = ["local_files", "public", "public_files", "public_names"]

MIMIC_YEAR_S = 52 * 7 * 86400.0  # its times are in years of 52 weeks


def public_names() -> tuple[str, ...]:
    """The names that `public` knows."""
    return tuple(SOURCES)


def public_files(name: str) -> dict[str, Path]:
    """The files of a data set, fetched where need be and checked, by their path below the data folder."""
    return {file.path: _found(name, file) for file in _files(name)}


def local_files(name: str) -> dict[str, Path | None]:
    """Where the files of a data set are on this machine, None for those that are not; nothing is fetched or checked."""
    return {file.path: next((place for place in _places(file) if place.is_file()), None) for file in _files(name)}


def public(name: str) -> Stream:
    """A public data set as the stream that it is: Series, Events, Corpus, Pieces, Tracks or Sounds."""
    files = public_files(name)
    path = next(iter(files.values()))
    match name:
        case "ett-h1" | "illness":
            return _dated(name, path, freq="1h" if name == "ett-h1" else "1w")
        case "exchange-rate":
            values = np.loadtxt(path, delimiter=",")
            return Series(name=name, values=values, names=tuple(f"country {n + 1}" for n in range(values.shape[1])))
        case "los-loop":
            with path.open() as file:
                sensors = tuple(file.readline().strip().split(","))
            return Series(name=name, values=np.loadtxt(path, delimiter=",", skiprows=1), names=sensors, freq="5min")
        case "ml-100k":
            return _inter(name, path)
        case "ml-1m":
            events, stored = read_events(path), np.load(path)
            return replace(events, name=name, labels=tuple(stored["movie_id"].tolist()))
        case "games" | "beauty" | "toys" | "yelp" | "lastfm":
            return replace(read_events(path), name=name)
        case "stackoverflow" | "stackoverflow-timed":
            events, stored = read_events(path), np.load(path)
            test = stored["is_test"] if "is_test" in stored else stored["test_split_bits"] & 1
            return replace(events, name=name, part=np.where(test > 0, TEST, TRAIN).astype(np.int8))
        case "mimic2":
            return _mimic(name, path)
        case "jsb":
            return replace(read_pieces(path), name=name)
        case "tinyshakespeare":
            return cut(name, path.read_bytes(), edges=(0.9, 0.9))  # the field has one held-out part
        case "eth-ucy":
            recordings = {each.removeprefix("eth_ucy/").removesuffix(".txt"): file for each, file in files.items()}
            return read_tracks(name, recordings)
        case _:
            return replace(read_sounds(path), name=name)


def _files(name: str) -> tuple[File, ...]:
    if name not in SOURCES:
        raise AttimeError(f"there is no public data set {name!r}; known are {', '.join(SOURCES)}.")
    return SOURCES[name].files


def _places(file: File) -> list[Path]:
    """Where a file may be: below $ATTIME_DATA, and in the cache."""
    given = os.environ.get("ATTIME_DATA")
    return ([Path(given).expanduser() / file.path] if given else []) + [_cache() / file.path]


def _found(name: str, file: File) -> Path:
    """The file where it is, or downloaded into the cache."""
    places = _places(file)
    path = next((place for place in places if place.is_file()), None)
    if path is None and file.origin is None:
        raise MissingData(
            f"{name} needs {file.path}, which was converted from the published files and cannot be downloaded; "
            f"put it at {places[0]} or set ATTIME_DATA to the folder that holds {file.path}."
        )
    if path is None:
        return _downloaded(name, file, places[-1])
    if (came := hashlib.sha256(path.read_bytes()).hexdigest()) != file.sha256:
        raise AttimeError(
            f"{name} needs {file.path} with the SHA-256 {file.sha256[:12]}...; {path} has {came[:12]}...: "
            f"delete that file so that it is fetched again."
        )
    return path


def _downloaded(name: str, file: File, place: Path) -> Path:
    import pooch

    url = f"https://raw.githubusercontent.com/{file.origin}"
    try:
        return Path(pooch.retrieve(url, known_hash=f"sha256:{file.sha256}", fname=place.name, path=place.parent))
    except (OSError, ValueError) as error:  # no network, no such page, another checksum
        reason = str(error).splitlines()[0]
        raise MissingData(
            f"{name} needs {file.path} from {url}, which could not be fetched ({reason}); fetch it yourself and put it "
            f"at {place}, or set ATTIME_DATA to a folder that holds {file.path}."
        ) from None


def _cache() -> Path:
    import pooch

    return Path(pooch.os_cache("attime"))


def _dated(name: str, path: Path, *, freq: str) -> Series:
    """A CSV file with dates in its first column, read without polars."""
    cells = np.loadtxt(path, delimiter=",", dtype=str)
    when = cells[1:, 0].astype("datetime64[s]").astype(np.float64)
    return Series(
        name=name, values=cells[1:, 1:].astype(np.float64), names=tuple(cells[0, 1:].tolist()), when_s=when, freq=freq
    )


def _inter(name: str, path: Path) -> Events:
    """RecBole's table of user, item, rating and time, read without polars."""
    users, items, _, times = np.loadtxt(path, skiprows=1, unpack=True)
    order = np.lexsort((times, users))
    kinds, values = np.unique(items[order].astype(np.int64), return_inverse=True)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(np.unique(users, return_inverse=True)[1]))])
    return Events(name=name, values=values, offsets=offsets, labels=tuple(kinds.tolist()), when_s=times[order])


def _mimic(name: str, path: Path) -> Events:
    stored = np.load(path)
    values = np.concatenate([stored["types_1_train"], stored["types_1_test"]]).astype(np.int64)
    times = np.concatenate([stored["times_1_train"], stored["times_1_test"]]) * MIMIC_YEAR_S
    train, test = (stored[f"offsets_1_{part}"].astype(np.int64) for part in ("train", "test"))
    part = np.repeat([TRAIN, TEST], [len(train) - 1, len(test) - 1]).astype(np.int8)
    labels = tuple(range(1, 76))
    return Events(
        name=name,
        values=values - 1,
        offsets=np.concatenate([train, train[-1] + test[1:]]),
        labels=labels,
        when_s=times,
        part=part,
    )
