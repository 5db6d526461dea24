"""Learning curves: validation quality, or training loss, against seconds or tokens of training."""

from dataclasses import dataclass
from math import isfinite
from typing import Literal

from plotly import graph_objects as go

from attime.report.chart import NARROW, Sheet, note, plain, short
from attime.report.columns import ARROWS, ranked, score
from attime.report.labels import LINE, spread, text_width
from attime.report.theme import LIGHT, Theme
from attime.report.units import count, significant
from attime.report.words import words
from attime.tasks.result import Comparison, Row

__all__ = ["curves"]

MOST = 16
"""More names than this beside a chart help nobody; the others show on hover."""

Progress = Literal["seconds", "tokens"]
Measure = Literal["quality", "loss"]


@dataclass(frozen=True)
class _Line:
    """What is drawn of a row: its curve, or the one value of a floor."""

    row: Row
    points: tuple[tuple[float, float], ...]
    colour: str

    @property
    def end(self) -> float:
        return self.points[-1][1]

    @property
    def weight(self) -> int:
        """Which lie on top, and keep their names."""
        return 3 if self.row.winner else 2 if self.row.kind == "floor" else int(self.row.pareto)


def curves(
    comparison: Comparison,
    *,
    across: Progress = "seconds",
    measure: Measure = "quality",
    width: int = 840,
    theme: Theme = LIGHT,
) -> go.Figure | None:
    """The chart; floors are lines beside quality. None if there are no such points.

    What could not be drawn is told in `figure.layout.meta["note"]`.
    """
    mixers, floors = _lines(comparison, across, measure, theme)
    if not mixers:
        return None
    better = comparison.better if measure == "quality" else "lower"
    low, high = _heights(mixers, floors, better)
    longest = max(line.points[-1][0] for line in mixers) or 1.0
    letters, size = (13, 11) if width < NARROW else (24, 12)
    right = 30 + round(max(text_width(short(line.row.name, letters), size) for line in (*mixers, *floors)))
    sheet = Sheet(theme=theme, width=width, x=(0.0, 1.01 * longest), y=(low, high), right=right)

    shown = [line for line in (*mixers, *floors) if low <= line.end <= high]
    for line in shown:  # from where a curve ended to its name
        start, colour, dash = (
            (0.0, theme.floor, "dash") if line in floors else (line.points[-1][0], theme.line, "solid")
        )
        sheet.rule((start, line.end), (sheet.x[1], line.end), colour, dash=dash)
    for line in sorted(mixers, key=lambda line: line.weight):
        _draw(sheet, line, across, inside=line in shown)
    unnamed = _names(sheet, shown, letters)

    said = words(comparison)
    title = said.seconds if across == "seconds" else said.tokens
    what = f"{comparison.metric}{said.where}" if measure == "quality" else said.loss
    sheet.head(f"{what} {ARROWS[better]} {better} is better")
    away = [f"{line.row.name} {significant(line.end)}" for line in (*mixers, *floors) if line not in shown]
    drawn = {id(line.row) for line in mixers}
    missing = [row.name for row in comparison.rows if row.kind == "mixer" and id(row) not in drawn]
    text = note(away=away, missing=missing, unnamed=unnamed)
    return sheet.figure(text, title=title, nticks=5 if sheet.narrow else 10)


def _lines(comparison: Comparison, across: Progress, measure: Measure, theme: Theme) -> tuple[list[_Line], list[_Line]]:
    mixers, floors = [], []
    for row in ranked(comparison):
        quality = score(row)
        if row.kind == "floor" and quality is not None and measure == "quality":
            floors.append(_Line(row, ((0.0, quality),), theme.floor))
        points = tuple(
            (getattr(point, across), value)
            for point in row.curve
            if (value := getattr(point, measure)) is not None and isfinite(value)
        )
        if row.kind == "mixer" and points:
            mixers.append(_Line(row, points, theme.accent if row.winner else theme.ink if row.pareto else theme.muted))
    return mixers, floors


def _heights(mixers: list[_Line], floors: list[_Line], better: Literal["lower", "higher"]) -> tuple[float, float]:
    """What happened once the curves have come down, and the floors that do not squeeze it into less than half."""
    sign = 1.0 if better == "lower" else -1.0
    late = [sign * y for line in mixers for x, y in line.points if x >= 0.4 * line.points[-1][0]]
    best, worst = min(late), max(late)
    room = (worst - best) or abs(best) * 0.1 or 1.0
    kept = [sign * line.end for line in floors if best - room <= sign * line.end <= worst + room]
    best, worst = min([best, *kept]), max([worst, *kept])
    height = (worst - best) or abs(best) * 0.1 or 1.0
    ends = sign * (best - 0.06 * height), sign * (worst + 0.06 * height)
    return min(ends), max(ends)


def _draw(sheet: Sheet, line: _Line, across: Progress, *, inside: bool) -> None:
    row, name = line.row, plain(line.row.name)
    after = (lambda x: f"{significant(x)} s") if across == "seconds" else (lambda x: f"{count(x)} tokens")
    texts = [f"<b>{name}</b><br>{significant(y, 4)} after {after(x)}" for x, y in line.points]
    width, dash = 3 if row.winner else 1.7 if row.pareto else 1.1, "solid" if row.status == "done" else "dot"
    sheet.line(line.points, line.colour, width, dash=dash, name=name, hovertext=texts)
    if inside:
        marker = {"color": line.colour, "size": 8 if row.winner else 5}
        sheet.dots(line.points[-1:], marker, name=name, hoverinfo="skip", hovertemplate=None)


def _names(sheet: Sheet, lines: list[_Line], letters: int) -> int:
    """Names in the right margin, pushed apart and joined to where their lines end; returns how many had no room."""
    gap = LINE * sheet.size
    lines = sorted(lines, key=lambda line: -line.weight)  # stable: the best come first among equals
    named = lines[:MOST]
    wanted = [sheet.down(line.end) for line in named]
    for line, at, want in zip(named, spread(wanted, gap=gap, low=0, high=sheet.area[1]), wanted, strict=True):
        sheet.write(
            short(line.row.name, letters), (1, line.end), line.colour, bold=line.row.winner, xref="paper",
            xanchor="left", ax=22, ay=round(at - want, 1), arrowcolor=line.colour,
        )  # fmt: skip
    return len(lines) - len(named)
