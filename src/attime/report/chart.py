"""The sheet that every chart of the report is drawn on: its size in pixels, its axes, its names and its note."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from statistics import median
from typing import Any, Literal

from plotly import graph_objects as go

from attime.report.labels import LINE, Box, text_width
from attime.report.theme import Theme

__all__ = ["NARROW", "Sheet", "note", "short", "window"]

FONT = "-apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
NARROW = 560
"""Below this width a chart is drawn for a phone."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A figure with its plot area in pixels and the ranges of its axes, for putting names where they fit."""

    figure: go.Figure
    theme: Theme
    width: int
    height: int
    right: int
    x: tuple[float, float]
    y: tuple[float, float]
    left: int = 54
    top: int = 40
    bottom: int = 54

    @classmethod
    def blank(
        cls, theme: Theme, *, width: int, x: tuple[float, float], y: tuple[float, float], right: int = 14
    ) -> "Sheet":
        """An empty chart with quiet axes, fixed in place so that a phone scrolls over it."""
        height = 420 if width < NARROW else 480
        sheet = cls(figure=go.Figure(), theme=theme, width=width, height=height, right=right, x=x, y=y)
        axis = {
            "showgrid": True,
            "gridcolor": theme.line,
            "linecolor": theme.line,
            "tickcolor": theme.line,
            "ticks": "outside",
            "zeroline": False,
            "fixedrange": True,
            "tickfont": {"color": theme.muted, "size": 12},
            "title": {"font": {"color": theme.muted, "size": 13}, "standoff": 10},
        }
        sheet.figure.update_layout(
            template="none",
            width=width,
            height=height,
            margin={"l": sheet.left, "r": right, "t": sheet.top, "b": sheet.bottom},
            paper_bgcolor=theme.panel,
            plot_bgcolor=theme.panel,
            font={"family": FONT, "color": theme.ink, "size": 13},
            showlegend=False,
            hovermode="closest",
            dragmode=False,
            hoverlabel={
                "bgcolor": theme.panel,
                "bordercolor": theme.muted,
                "align": "left",
                "font": {"family": FONT, "color": theme.ink, "size": 13},
            },
            xaxis={**axis, "range": list(x), "showgrid": False, "showline": True},
            yaxis={**axis, "range": list(y), "nticks": 8},
        )
        return sheet

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
    def narrow(self) -> bool:
        """Drawn for a phone."""
        return self.width < NARROW

    def head(self, text: str) -> None:
        """What the vertical axis shows, written upright above it."""
        self.figure.add_annotation(
            text=escape(text, quote=False), xref="paper", yref="paper", x=0, y=1, xanchor="left", yanchor="bottom",
            xshift=8 - self.left, yshift=12, showarrow=False, font={"color": self.theme.muted, "size": 13},
        )  # fmt: skip

    def write(self, text: str, at: tuple[float, float], colour: str, *, bold: bool = False, **more: Any) -> None:
        """A name at a point of the chart; with `ax` and `ay`, that many pixels away from it with a line to it."""
        name = escape(text, quote=False)
        leader = {"showarrow": "ax" in more, "arrowhead": 0, "arrowwidth": 1, "arrowcolor": self.theme.muted}
        self.figure.add_annotation(
            **{"text": f"<b>{name}</b>" if bold else name, "x": at[0], "y": at[1], "borderpad": 0, **leader, **more},
            font={"color": colour, "size": self.size},
        )

    def rule(self, start: tuple[float, float], end: tuple[float, float], colour: str, **line: Any) -> None:
        """A straight line under the data."""
        self.figure.add_shape(
            type="line", x0=start[0], y0=start[1], x1=end[0], y1=end[1], layer="below",
            line={"color": colour, "width": 1.2, **line},
        )  # fmt: skip

    @property
    def size(self) -> int:
        """Font size of names."""
        return 11 if self.narrow else 12

    def box(self, text: str, *, left: float, top: float) -> Box:
        """The room that a name takes."""
        return Box(left, top, left + text_width(text, self.size), top + LINE * self.size)


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


def note(*, away: Sequence[str], missing: Sequence[str], unnamed: int = 0) -> str:
    """What a chart leaves out, in words."""
    said = [
        *([f"Off the scale: {', '.join(away)}."] if away else []),
        *([f"Without a point here: {', '.join(missing)}."] if missing else []),
        *([f"{unnamed} names had no room; they show on hover and in the table."] if unnamed else []),
    ]
    return " ".join(said)
