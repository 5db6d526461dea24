"""What every form of the table shows: its rows in order, its columns, and how a cell reads."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

from attime.report.units import count, decimals, memory, milliseconds, past
from attime.report.words import words
from attime.tasks.result import Comparison, Row

__all__ = ["ARROWS", "MISSING", "Column", "best_floor", "columns", "direction", "long_past", "ranked", "score"]

ARROWS = {"lower": "↓", "higher": "↑"}
MISSING = "–"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of numbers."""

    title: str
    """May hold one line break, for narrow places."""
    value: Callable[[Row], float | None]
    show: Callable[[float], str]
    need: int
    """Columns of higher need stay when the place is narrow."""

    def cell(self, row: Row) -> str:
        """The text of the cell; a dash where the number is not known."""
        value = self.value(row)
        return MISSING if value is None or not isfinite(value) else self.show(value)


def score(row: Row) -> float | None:
    """The row's quality, or None where there is none or it is not finite."""
    return row.quality if row.quality is not None and isfinite(row.quality) else None


def ranked(comparison: Comparison) -> tuple[Row, ...]:
    """Mixers and floors together, the best first; rows without a quality last."""
    sign = 1.0 if comparison.better == "lower" else -1.0

    def place(row: Row) -> tuple[bool, float]:
        quality = score(row)
        return quality is None, 0.0 if quality is None else sign * quality

    return tuple(sorted(comparison.rows, key=place))


def best_floor(comparison: Comparison) -> Row | None:
    """The floor to beat."""
    return next((row for row in ranked(comparison) if row.kind == "floor" and score(row) is not None), None)


def long_past(comparison: Comparison) -> int | None:
    """The longest past at which state or step time was measured."""
    return max((tokens for row in comparison.rows for tokens in (*row.state_bytes, *row.step_ms)), default=None)


def direction(comparison: Comparison) -> str:
    """`lower is better` or `higher is better`."""
    return f"{comparison.better} is better"


def columns(comparison: Comparison) -> tuple[Column, ...]:
    """The columns in which at least one row has a number; the headline metric always."""
    headline = _scores(comparison, _folded(f"{comparison.metric} {ARROWS[comparison.better]}"), score, need=9)
    said = words(comparison)
    states = sorted({tokens for row in comparison.rows for tokens in row.state_bytes})
    steps = sorted({tokens for row in comparison.rows for tokens in row.step_ms})
    # one model's parameters are the same in every row, its recall is not
    other = 4 if comparison.kind == "memory" else 1
    rest = [
        *(
            Column(
                title=f"{said.state}\n{past(at)}",
                value=lambda row, at=at: row.state_bytes.get(at),
                show=memory,
                need=need,
            )
            for at, need in zip(states, _needs(8, 5, len(states)), strict=True)
        ),
        *(
            Column(
                title=f"Step\n{past(at)}", value=lambda row, at=at: row.step_ms.get(at), show=milliseconds, need=need
            )
            for at, need in zip(steps, _needs(7, 4, len(steps)), strict=True)
        ),
        Column(title=said.rate, value=lambda row: row.train_tokens_per_s, show=count, need=6),
        Column(title="Peak\nmemory", value=lambda row: row.peak_bytes, show=memory, need=2),
        Column(title="Para-\nmeters", value=lambda row: row.parameters, show=count, need=3),
        *(
            _scores(comparison, _folded(name), lambda row, name=name: row.scores.get(name), need=other)
            for name in dict.fromkeys(name for row in comparison.rows for name in row.scores)
            if name != comparison.metric
        ),
    ]
    kept = (column for column in rest if any(column.value(row) is not None for row in comparison.rows))
    return (headline, *kept)


def _scores(comparison: Comparison, title: str, value: Callable[[Row], float | None], *, need: int) -> Column:
    known = [number for row in comparison.rows if (number := value(row)) is not None]
    places = decimals(known)
    return Column(title=title, value=value, show=lambda number: f"{number:.{places}f}", need=need)


def _needs(last: int, others: int, length: int) -> list[int]:
    """The longest past matters most."""
    return [others] * (length - 1) + [last] * min(length, 1)


def _folded(title: str) -> str:
    """A long title on two lines, broken at the space nearest its middle."""
    spaces = [place for place, letter in enumerate(title) if letter == " "] if len(title) > 9 else []
    middle = min(spaces, key=lambda place: abs(2 * place - len(title)), default=None)
    return title if middle is None else f"{title[:middle]}\n{title[middle + 1 :]}"
