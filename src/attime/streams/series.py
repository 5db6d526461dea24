"""Time series from CSV and Parquet files: numbers on a regular clock, or a sentence that says what is wrong."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, final

import numpy as np
from numpy.typing import NDArray

from attime.errors import AttimeError
from attime.streams.contract import Stream, Traits, readable
from attime.streams.table import is_number, listed, read_table

if TYPE_CHECKING:
    import polars

__all__ = ["Series", "read_series", "seconds"]

UNITS = {"s": 1, "min": 60, "t": 60, "h": 3600, "d": 86400, "w": 604800, "mo": 2629746, "y": 31556952}
MONTH = 28 * 86400  # from here on steps are months and years, which are not equally long
CLOCKS = ("date", "time", "datetime", "timestamp", "ds", "day", "month", "when")
NOTHING = ("", "nan", "na", "n/a", "null", "none", "?")


@final
@dataclass(frozen=True, kw_only=True)
class Series(Stream):
    """Values (time, channels) on a regular clock. `freq` is the step: `15min`, `1h`, `1d`, `1w`, `1mo`."""

    traits: ClassVar[Traits] = Traits(clock=True)

    values: NDArray[np.float64] = field(repr=False, compare=False)
    names: tuple[str, ...]
    when_s: NDArray[np.float64] | None = field(default=None, repr=False, compare=False)
    freq: str | None = None

    def __post_init__(self) -> None:
        shape = self.values.shape
        if len(shape) != 2 or shape[1] != len(self.names) or 0 in shape:
            raise AttimeError(
                f"Series needs values (time, channels) with a name for each channel; got sizes {shape} and "
                f"{len(self.names)} names."
            )
        if bad := int((~np.isfinite(self.values)).sum()):
            row, channel = np.argwhere(~np.isfinite(self.values))[0]
            raise AttimeError(
                f"{self.name} needs a number in every row; {bad} are missing or infinite, the first in row {row + 1} "
                f'of {self.names[channel]}: mend the data or pass gaps="fill" to repeat the value before each gap.'
            )

    @property
    def about(self) -> str:
        rows, channels = self.values.shape
        return f"{self.name}: {channels} series of {rows:,} steps" + (f" of {self.freq}" if self.freq else "")

    @property
    def period(self) -> int | None:
        """Steps of the shortest cycle that the clock suggests: a day, for days a week, for weeks and months a year."""
        step = seconds(self.freq) if self.freq else 0
        for cycle, longest in ((86400, 86399), (604800, 86400), (52 * 604800, 604800), (UNITS["y"], UNITS["mo"])):
            if 0 < step <= longest:
                return round(cycle / step) if cycle % step < 1 else None
        return None

    def only(self, target: str | Sequence[str]) -> "Series":
        """The channels named, in that order."""
        wanted = [target] if isinstance(target, str) else list(target)
        for name in wanted:
            if name not in self.names:
                raise AttimeError(
                    f"{self.name} has no column {name!r}; its number columns are {listed(list(self.names))}."
                )
        values = self.values[:, [self.names.index(name) for name in wanted]]
        name = self.name if tuple(wanted) == self.names else f"{self.name}:{'+'.join(wanted)}"
        return replace(self, name=name, values=values, names=tuple(wanted))

    @classmethod
    def examples(cls) -> Sequence["Series"]:
        steps = np.arange(48.0)
        waves = np.stack([np.sin(steps * 2 * np.pi / 24), np.cos(steps * 2 * np.pi / 24)], axis=1)
        return [
            cls(name="waves", values=waves, names=("sine", "cosine"), when_s=3600 * steps, freq="1h"),
            cls(name="steps", values=steps[:, None], names=("step",)),
        ]


def seconds(freq: str) -> float:
    """How long a step is; a month and a year are taken at their mean length."""
    found = re.fullmatch(r"(\d*)(s|sec|t|min|h|d|w|mo|y)", freq.strip().lower())
    if not found or found[1] == "0":
        raise AttimeError(f"freq needs a number and a unit such as 30s, 15min, 1h, 1d, 1w, 1mo or 1y; got {freq!r}.")
    return float(int(found[1] or 1) * UNITS[found[2].removesuffix("ec")])


def read_series(
    path: str | Path,
    *,
    target: str | Sequence[str] | None = None,
    freq: str | None = None,
    gaps: Literal["refuse", "fill"] = "refuse",
) -> Series:
    """Series from a CSV or Parquet file with one row per time step and one column per channel.

    A column of dates, if there is one, is the clock. `target` names the channels (all number columns by default),
    `freq` the step where the file has no dates. Gaps, which are missing numbers and missing rows, are an error;
    `gaps="fill"` repeats the last value before each.
    """
    if gaps not in ("refuse", "fill"):
        raise AttimeError(f'gaps needs "refuse" or "fill"; got {gaps!r}.')
    path = readable(path, "a series")
    step = seconds(freq) if freq else None
    table = read_table(path, headless=True)
    clock = _clock(table)
    wanted = [target] if isinstance(target, str) else list(target or [])
    columns = [name for name in table.columns if clock is None or name != clock[0]]
    for name in wanted:
        if name not in columns:
            raise AttimeError(f"{path.name} has no column {name!r} to forecast; its columns are {listed(columns)}.")
    names = wanted or columns
    if not names or len(table) < 2:
        raise AttimeError(
            f"a series needs at least two rows and one column of numbers; {path.name} has {len(table)} rows and "
            f"the columns {listed(table.columns)}."
        )
    values = np.stack([_numbers(table, name, path.name) for name in names], axis=1)
    when = None
    if clock is not None:
        when, values, freq = _on_clock(clock[1], values, step, freq, fill=gaps == "fill", who=path.name)
    if gaps == "fill":
        values = _filled(values, names, path.name)
    return Series(name=path.name.split(".")[0], values=values, names=tuple(names), when_s=when, freq=freq)


def _clock(table: "polars.DataFrame") -> tuple[str, NDArray[np.float64]] | None:
    """Name and seconds of the first column that holds dates, or that has a name of a clock and counts seconds."""
    import polars

    for name in table.columns:
        column, kind = table[name], table[name].dtype
        if kind == polars.String and not is_number(column[0] if len(column) else "0"):
            column = _dates(column)
        elif kind == polars.String and name.lower() in CLOCKS:
            column = column.cast(polars.Float64, strict=False)
        if column.dtype in (polars.Date, polars.Datetime):
            column = column.cast(polars.Datetime("us")).dt.replace_time_zone(None).dt.epoch("us") / 1e6
        elif not (name.lower() in CLOCKS and column.dtype.is_numeric()):
            continue
        if bad := int(column.null_count()):
            row = int(column.is_null().to_numpy().argmax())
            raise AttimeError(
                f"the dates in column {name!r} must be complete; {bad} cannot be read, the first in row {row + 1}: "
                f"{table[name][row]!r}."
            )
        return name, column.cast(polars.Float64).to_numpy()
    return None


def _dates(column: "polars.Series") -> "polars.Series":
    """Parsed dates, or the column as it was if most of it is no date."""
    import polars

    text = column.str.strip_chars().str.replace(r"(Z|[+-]\d\d:?\d\d)$", "")
    best, formats = column, ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d", "%Y/%m/%d")
    for form in (*formats, "%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M:%S", "%Y-%m", "%d.%m.%Y", "%d.%m.%Y %H:%M"):
        source = text + "-01" if form == "%Y-%m" else text
        form = "%Y-%m-%d" if form == "%Y-%m" else form
        short = len(form) <= 8
        kind = polars.Date if short else polars.Datetime("us")
        parsed = source.str.strptime(kind, form, strict=False)
        if parsed.null_count() < min(len(column) // 2 + 1, best.null_count() if best is not column else len(column)):
            best = parsed
            if parsed.null_count() == 0:
                break
    return best


def _numbers(table: "polars.DataFrame", name: str, who: str) -> NDArray[np.float64]:
    import polars

    column = table[name]
    if column.dtype == polars.String:
        text = column.fill_null("").str.strip_chars()
        number = text.cast(polars.Float64, strict=False)
        wrong = number.is_null() & ~text.str.to_lowercase().is_in(list(NOTHING))
    elif column.dtype.is_numeric() or column.dtype == polars.Boolean:
        number, wrong = column.cast(polars.Float64), polars.Series([False])
    else:
        number, wrong = column, polars.Series([True])
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise AttimeError(
            f"{who} needs numbers in column {name!r}; {int(wrong.sum())} times it holds something else, the first in row "
            f"{row + 1}: {column[row]!r}. Mend them, or name the number columns to forecast with target=."
        )
    return number.fill_null(float("nan")).to_numpy().astype(np.float64)


def _on_clock(
    when: NDArray[np.float64],
    values: NDArray[np.float64],
    step: float | None,
    freq: str | None,
    *,
    fill: bool,
    who: str,
) -> tuple[NDArray[np.float64], NDArray[np.float64], str | None]:
    """The same on equal steps; missing rows are an error or become NaN."""
    steps = np.diff(when)
    if (steps <= 0).any():
        row = int((steps <= 0).argmax()) + 2
        raise AttimeError(
            f"{who} needs dates that increase; row {row} is not later than the row before it: sort the rows."
        )
    lengths, counts = np.unique(steps, return_counts=True)
    usual = float(lengths[counts.argmax()]) if step is None else step  # the most frequent step
    if usual >= MONTH:
        return when, values, freq or ("1mo" if usual < 40 * 86400 else "1y" if usual > 300 * 86400 else None)
    places = (when - when[0]) / usual
    if np.abs(places - places.round()).max() > 1e-3:
        row = int((np.abs(places - places.round()) > 1e-3).argmax()) + 1
        raise AttimeError(
            f"{who} needs equal steps of {_freq(usual)}; row {row} is {steps[max(row - 2, 0)]:g} s after the row before it: "
            f"resample the data, or pass freq= if the step is another."
        )
    slots = places.round().astype(np.int64)
    missing = int(slots[-1]) + 1 - len(slots)
    if missing and not fill:
        row = int((np.diff(slots) > 1).argmax()) + 1
        raise AttimeError(
            f"{who} needs a row every {_freq(usual)}; missing are {missing}, the first after row {row}: add them "
            f'or pass gaps="fill" to repeat the values before each gap.'
        )
    if missing:
        wide = np.full((int(slots[-1]) + 1, values.shape[1]), np.nan)
        wide[slots], values = values, wide
        when = when[0] + usual * np.arange(len(values))
    return when, values, freq or _freq(usual)


def _filled(values: NDArray[np.float64], names: Sequence[str], who: str) -> NDArray[np.float64]:
    """Every NaN replaced by the last number before it, or at the start by the first after it."""
    known = np.isfinite(values)
    if not known.any(axis=0).all():
        name = names[int((~known.any(axis=0)).argmax())]
        raise AttimeError(f"{who} needs numbers in column {name!r}; it has none: leave it out with target=.")
    rows = np.where(known, np.arange(len(values))[:, None], -1)
    source = np.maximum.accumulate(rows, axis=0)
    return np.take_along_axis(values, np.where(source < 0, known.argmax(axis=0), source), axis=0)


def _freq(step: float) -> str:
    for unit in ("w", "d", "h", "min", "s"):
        if step >= UNITS[unit] and step % UNITS[unit] == 0:
            return f"{step / UNITS[unit]:g}{unit}"
    return f"{step:g}s"
