"""The sheet that every chart of the report is drawn on: its size in pixels, its axes, its names and its note."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from statistics import median
from typing import Any, Literal

from plotly import graph_objects as go

from attime.report.labels import LINE, Box, text_width
from attime.report.theme import Theme

__all__ = ["NARROW", "Sheet", "note", "plain", "short", "window"]

FONT = "-apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
HOVER = {"hovertemplate": "%{hovertext}<extra></extra>"}
"""Names never stand in a template, where a percent sign would be read."""
NARROW = 560
"""Below this width a chart is drawn for a phone."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A chart being drawn: its plot area in pixels and the ranges of its axes, for putting names where they fit."""

    theme: Theme
    width: int
    x: tuple[float, float]
    y: tuple[float, float]
    right: int = 14
    left: int = 54
    top: int = 40
    bottom: int = 54
    traces: list[dict[str, Any]] = field(default_factory=list)
    shapes: list[dict[str, Any]] = field(default_factory=list)
    names: list[dict[str, Any]] = field(default_factory=list)

    def figure(self, note: str, **xaxis: Any) -> go.Figure:
        """What was drawn, with quiet axes, fixed in place so that a phone scrolls over it."""
        theme = self.theme
        axis = {
            "gridcolor": theme.line,
            "linecolor": theme.line,
            "tickcolor": theme.line,
            "ticks": "outside",
            "zeroline": False,
            "fixedrange": True,
            "tickfont": {"color": theme.muted, "size": 12},
        }
        title = {"text": xaxis.pop("title"), "font": {"color": theme.muted, "size": 13}, "standoff": 10}
        font = {"family": FONT, "color": theme.ink, "size": 13}
        layout = {
            "template": "none",
            "width": self.width,
            "height": self.height,
            "margin": {"l": self.left, "r": self.right, "t": self.top, "b": self.bottom},
            "paper_bgcolor": theme.panel,
            "plot_bgcolor": theme.panel,
            "font": font,
            "showlegend": False,
            "hovermode": "closest",
            "dragmode": False,
            "hoverlabel": {"bgcolor": theme.panel, "bordercolor": theme.muted, "align": "left", "font": font},
            "xaxis": {**axis, "range": list(self.x), "showgrid": False, "showline": True, "title": title, **xaxis},
            "yaxis": {**axis, "range": list(self.y), "nticks": 8},
            "shapes": self.shapes,
            "annotations": self.names,
            "meta": {"note": note},
        }
        return go.Figure([go.Scatter(trace) for trace in self.traces], layout)

    def across(self, x: float) -> float:
        """Pixels from the left edge of the plot area."""
        return (x - self.x[0]) / (self.x[1] - self.x[0]) * self.area[0]

    def down(self, y: float) -> float:
        """Pixels from the top edge of the plot area."""
        return (self.y[1] - y) / (self.y[1] - self.y[0]) * self.area[1]

    @property
    def area(self) -> tuple[int, int]:
        """Width and height of the plot area."""
        return self.width - self.left - self.right, self.height - self.top - self.bottom

    @property
    def height(self) -> int:
        """Pixels, the same for all of one kind of screen."""
        return 420 if self.narrow else 480

    @property
    def narrow(self) -> bool:
        """Drawn for a phone."""
        return self.width < NARROW

    def head(self, text: str) -> None:
        """What the vertical axis shows, written upright above it."""
        edge = {"xanchor": "left", "yanchor": "bottom", "xshift": 8 - self.left, "yshift": 12}
        self.write(text, (0, 1), self.theme.muted, size=13, xref="paper", yref="paper", **edge)

    def write(
        self, text: str, at: tuple[float, float], colour: str, *, bold: bool = False, size: float = 0, **more: Any
    ) -> None:
        """A name at a point of the chart; with `ax` and `ay`, that many pixels away from it with a line to it."""
        name = plain(text)
        leader = {"showarrow": "ax" in more, "arrowhead": 0, "arrowwidth": 1, "arrowcolor": self.theme.muted}
        font = {"color": colour, "size": size or self.size}
        what = {"text": f"<b>{name}</b>" if bold else name, "x": at[0], "y": at[1], "borderpad": 0, "font": font}
        self.names.append({**what, **leader, **more})

    def rule(self, start: tuple[float, float], end: tuple[float, float], colour: str, *, dash: str = "solid") -> None:
        """A straight line under the data."""
        ends = {"x0": start[0], "y0": start[1], "x1": end[0], "y1": end[1]}
        self.shapes.append({"type": "line", "layer": "below", **ends, "line": _line(colour, 1.2, dash)})

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: float, **more: Any) -> None:
        """A curve."""
        style = _line(colour, width, more.pop("dash", "solid"), shape=more.pop("shape", "linear"))
        self.traces.append({**_columns(points), "mode": "lines", "line": style, **HOVER, **more})

    def dots(self, points: Sequence[tuple[float, float]], marker: Mapping[str, Any], **more: Any) -> None:
        """Points; half of one may stand over the edge."""
        self.traces.append(
            {**_columns(points), "mode": "markers", "marker": marker, "cliponaxis": False, **HOVER, **more}
        )

    @property
    def size(self) -> int:
        """Font size of names."""
        return 11 if self.narrow else 12

    def box(self, text: str, *, left: float, top: float) -> Box:
        """The room that a name takes."""
        return Box(left, top, left + text_width(text, self.size), top + LINE * self.size)


def _columns(points: Sequence[tuple[float, float]]) -> dict[str, list[float]]:
    return {"x": [x for x, _ in points], "y": [y for _, y in points]}


def _line(colour: str, width: float, dash: str, **more: Any) -> dict[str, Any]:
    return {"color": colour, "width": width, "dash": dash, **more}


def window(mixers: Sequence[float], floors: Sequence[float], better: Literal["lower", "higher"]) -> tuple[float, float]:
    """The range of quality to draw: all that matters, not stretched by what came out hopelessly bad.

    Floors that would squeeze the mixers into less than half of the height are out of it, and a strip on their side
    is left free to name them in.
    """
    sign = 1.0 if better == "lower" else -1.0
    ours, theirs = [sign * value for value in mixers], sorted(sign * value for value in floors)
    best = min([*ours, *theirs[:1]])
    gaps = [value - best for value in ours]
    spread = min(max(gaps), 3.0 * median(gaps)) if len(gaps) > 2 else max(gaps)
    beside = [value - best for value in theirs if value - best <= (2.0 * spread or abs(best))]
    worst = max(gap for gap in (0.0, *gaps, *beside) if gap <= max(spread, *beside, 0.0) * (1 + 1e-9))
    height = worst or abs(best) * 0.1 or 1.0
    slack = 0.11 if len(beside) == len(theirs) else 0.2
    ends = sign * (best - 0.1 * height), sign * (best + worst + slack * height)
    return min(ends), max(ends)


def short(text: str, letters: int) -> str:
    """The text, without the names of its options and then with an ellipsis where it is longer."""
    if len(text) > letters:
        text = re.sub(r"\b\w+=", "", text)
    return text if len(text) <= letters else text[: letters - 1].rstrip(" (,") + "…"


def plain(text: str) -> str:
    """The text as plotly shows it letter for letter: no tags, no entities, no templates."""
    return escape(text, quote=False).replace("%{", "%&#123;")


def note(*, away: Sequence[str], missing: Sequence[str], unnamed: int = 0) -> str:
    """What a chart leaves out, in words."""
    said = [
        *([f"Off the scale: {', '.join(away)}."] if away else []),
        *([f"Without a point here: {', '.join(missing)}."] if missing else []),
        *([f"{unnamed} names had no room; they show on hover and in the table."] if unnamed else []),
    ]
    return " ".join(said)
