"""Event sequences: what each user (patient, account, machine) did, in order, with times where they are known."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from attime.errors import AttimeError
from attime.streams.contract import TEST, TRAIN, VALID, Stream, Traits, readable
from attime.streams.table import read_table

__all__ = ["Events", "read_events"]

USERS = ("user_id", "user", "userid", "uid", "session_id", "session", "customer_id", "patient_id", "id")
ITEMS = ("item_id", "item", "itemid", "iid", "event", "event_type", "type", "product_id", "movie_id", "action")
TIMES = ("timestamp", "time", "datetime", "date", "when", "ts")


@final
@dataclass(frozen=True, kw_only=True)
class Events(Stream):
    """Event numbers from 0, of all sequences end to end; `labels[number]` is what the file calls it."""

    traits: ClassVar[Traits] = Traits(sequences=True, clock=True, split=True)

    values: NDArray[np.int64] = field(repr=False, compare=False)
    offsets: NDArray[np.int64] = field(repr=False, compare=False)
    labels: tuple[Any, ...] = field(repr=False)
    when_s: NDArray[np.float64] | None = field(default=None, repr=False, compare=False)
    part: NDArray[np.int8] | None = field(default=None, repr=False, compare=False)
    """For each sequence TRAIN, VALID or TEST, where the source says so."""

    def __post_init__(self) -> None:
        sizes = np.diff(self.offsets)
        if not len(self.values) or self.offsets[0] != 0 or self.offsets[-1] != len(self.values) or (sizes < 0).any():
            raise AttimeError(
                f"{self.name} needs events, and offsets that rise from 0 to their number; got {len(self.values)} events "
                f"and offsets from {self.offsets[0]} to {self.offsets[-1]}."
            )
        if self.values.min() < 0 or self.values.max() >= len(self.labels):
            raise AttimeError(
                f"{self.name} needs event numbers from 0 to {len(self.labels) - 1}, one per label; "
                f"got {self.values.min()} to {self.values.max()}."
            )

    @property
    def about(self) -> str:
        kinds = f"{len(self.values):,} events of {len(self.labels):,} kinds"
        return f"{self.name}: {kinds} in {len(self.offsets) - 1:,} sequences"

    @classmethod
    def examples(cls) -> Sequence["Events"]:
        values, offsets = np.array([0, 1, 0, 2, 1, 1, 2]), np.array([0, 3, 4, 7])
        when = np.array([0.0, 5.0, 5.0, 2.0, 1.0, 1.5, 9.0])
        part = np.array([TRAIN, VALID, TEST], np.int8)
        return [
            cls(name="visits", values=values, offsets=offsets, labels=("tea", "cake", "jam"), when_s=when, part=part),
            cls(name="clicks", values=values, offsets=offsets, labels=(10, 20, 30)),
        ]


def read_events(
    path: str | Path, *, user: str | None = None, item: str | None = None, time: str | None = None
) -> Events:
    """Events from a table (CSV, Parquet, RecBole `.inter`), from SASRec's or S3-Rec's text, or from `.npz`.

    `user`, `item` and `time` name the columns of a table, which are otherwise found by their usual names. Without times
    the order of the file counts. Text is `user item` lines, or lines of `user item item ...`; `.npz` holds `items` or
    `types`, `offsets` and if known `times`.
    """
    path = readable(path, "events")
    named = [name for name in (user, item, time) if name]
    kind = path.suffix.lower()
    if kind in (".txt", ".npz"):
        if named:
            raise AttimeError(f"user=, item= and time= name columns of a table; {path.name} has none: leave them out.")
        return _from_npz(path) if kind == ".npz" else _from_text(path)
    columns = _columns(path)
    who = _pick(columns, user, USERS, "user", path.name)
    what = _pick(columns, item, ITEMS, "item", path.name)
    when = _pick(columns, time, TIMES, "time", path.name) if time or set(TIMES) & set(columns) else None
    seconds = None if when is None else _seconds(columns[when], when, path.name)
    return _ordered(path.stem, columns[who], columns[what], seconds)


def _from_text(path: Path) -> Events:
    try:
        rows = [line.split() for line in path.read_text().splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise AttimeError(f"events need text in UTF-8; {path.name} is something else.") from None
    short = next((number for number, row in enumerate(rows, 1) if len(row) < 2), None)
    if short is not None or not rows:
        raise AttimeError(
            f"events need lines of `user item` or `user item item ...`; line {short or 1} of {path.name} has fewer words."
        )
    if all(len(row) == 2 for row in rows):
        users, items = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    else:
        twice, count = Counter(row[0] for row in rows).most_common(1)[0]
        if count > 1:
            raise AttimeError(
                f"{path.name} has lines of `user item item ...`, and {count} of them for user {twice}: write one line "
                f"per user."
            )
        users = np.repeat([row[0] for row in rows], [len(row) - 1 for row in rows])
        items = np.array([word for row in rows for word in row[1:]])
    return _ordered(path.stem, users, items, None)


def _from_npz(path: Path) -> Events:
    try:
        stored = np.load(path)
        values = stored["items"] if "items" in stored else stored["types"]
        offsets = stored["offsets"]
        times = stored["times"].astype(np.float64) if "times" in stored else None
    except (KeyError, ValueError, OSError) as error:
        raise AttimeError(f"events need an .npz with items (or types) and offsets; {path.name}: {error}.") from None
    kinds, values = np.unique(values, return_inverse=True)
    return Events(
        name=path.stem, values=values, offsets=offsets.astype(np.int64), labels=tuple(kinds.tolist()), when_s=times
    )


def _columns(path: Path) -> dict[str, NDArray[Any]]:
    """The columns of a table, by name without RecBole's types, as text or as the file has them."""
    table = read_table(path)
    if not len(table):
        raise AttimeError(f"events need rows below the header; {path.name} has none.")
    return {name.split(":")[0].strip(): table[name].to_numpy() for name in table.columns}


def _pick(columns: dict[str, Any], name: str | None, usual: Sequence[str], role: str, who: str) -> str:
    lower = {column.lower(): column for column in columns}
    found = name if name in columns else None if name else next((lower[each] for each in usual if each in lower), None)
    if found is None:
        asked = f"a column {name!r}" if name else f"a {role} column such as {usual[0]}"
        raise AttimeError(
            f"{who} needs {asked}; it has {', '.join(columns)}: name it with {role}= (--columns USER ITEM TIME)."
        )
    return found


def _seconds(column: NDArray[Any], name: str, who: str) -> NDArray[np.float64]:
    if np.issubdtype(column.dtype, np.datetime64):
        return column.astype("datetime64[us]").astype(np.int64) / 1e6
    try:
        return column.astype(np.float64)
    except (ValueError, TypeError):
        pass
    try:
        return column.astype("datetime64[us]").astype(np.int64) / 1e6
    except (ValueError, TypeError) as error:
        raise AttimeError(
            f"{who} needs times in column {name!r}, as seconds or as dates like 2024-05-01 12:00:00: {error}."
        ) from None


def _ordered(name: str, users: NDArray[Any], items: NDArray[Any], times: NDArray[np.float64] | None) -> Events:
    """Events of each user together, by time where there is one, users in the order of their ids."""
    users, items = _ids(users, "user", name), _ids(items, "item", name)
    if times is not None and not np.isfinite(times).all():
        row = int((~np.isfinite(times)).argmax())
        raise AttimeError(f"{name} needs a time for every event; row {row + 1} has none.")
    _, users = np.unique(users, return_inverse=True)
    kinds, values = np.unique(items, return_inverse=True)
    order = np.argsort(users, kind="stable") if times is None else np.lexsort((times, users))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(users))])
    when = None if times is None else times[order]
    return Events(
        name=name, values=values[order].astype(np.int64), offsets=offsets, labels=tuple(kinds.tolist()), when_s=when
    )


def _ids(column: NDArray[Any], role: str, who: str) -> NDArray[Any]:
    """Ids as whole numbers where all are, as text otherwise."""
    missing = np.array([each is None or each == "" for each in column]) if column.dtype.kind in "OUS" else np.zeros(1)
    if missing.any():
        raise AttimeError(f"{who} needs a {role} in every row; row {int(missing.argmax()) + 1} has none.")
    try:
        return column.astype(np.int64) if column.dtype.kind in "OUSiu" else column.astype(str)
    except (ValueError, TypeError, OverflowError):
        return column.astype(str)
