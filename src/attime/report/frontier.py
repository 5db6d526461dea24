"""Quality against what it costs to remember: state bytes, or the time of a step, after the long past."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, isfinite, log2
from typing import Any, Literal

from plotly import graph_objects as go

from attime.report.chart import Sheet, note, short, window
from attime.report.columns import ARROWS, best_floor, direction, long_past, ranked, score
from attime.report.floors import draw_floors, hover, name_beyond, name_floors
from attime.report.labels import Box, Placed, place
from attime.report.theme import LIGHT, Theme
from attime.report.units import memory, milliseconds, past, significant
from attime.report.words import words
from attime.tasks.result import Comparison, Row

__all__ = ["Spot", "front", "frontier", "limit", "spots"]

Cost = Literal["state", "step"]


@dataclass(frozen=True)
class Spot:
    """A mixer in the chart."""

    row: Row
    cost: float
    quality: float


def spots(comparison: Comparison, against: Cost = "state") -> list[Spot]:
    """Mixers that have a quality and a cost after the long past, best first."""
    at = long_past(comparison)
    out = []
    for row in ranked(comparison):
        quality, cost = score(row), (row.state_bytes if against == "state" else row.step_ms).get(at or 0)
        if row.kind == "mixer" and quality is not None and cost is not None and isfinite(cost):
            out.append(Spot(row, float(cost), quality))
    return out


def front(comparison: Comparison, against: Cost = "state") -> list[Spot]:
    """The Pareto front, cheapest first: no other is at least as good and as cheap, and better in one."""
    all_spots = spots(comparison, against)
    if against == "state":
        kept = [spot for spot in all_spots if spot.row.pareto]
    else:
        sign = 1 if comparison.better == "lower" else -1
        places = [(sign * spot.quality, spot.cost) for spot in all_spots]
        kept = [
            spot
            for spot, (bad, cost) in zip(all_spots, places, strict=True)
            if not any(b <= bad and c <= cost and (b, c) != (bad, cost) for b, c in places)
        ]
    return sorted(kept, key=lambda spot: spot.cost)


def limit(comparison: Comparison, against: Cost) -> float | None:
    """The limit that was set on this cost."""
    return next((value for name, value in comparison.limits.items() if against in name), None)


def frontier(
    comparison: Comparison, *, against: Cost = "state", width: int = 840, theme: Theme = LIGHT
) -> go.Figure | None:
    """The chart, with every name placed for this width (in a wider one they still do not collide).

    None if no mixer has both numbers. What could not be drawn is told in `figure.layout.meta["note"]`.
    """
    all_spots = spots(comparison, against)
    if not all_spots:
        return None
    show = memory if against == "state" else milliseconds
    floors = [row for row in ranked(comparison) if row.kind == "floor" and score(row) is not None]
    low, high = window([spot.quality for spot in all_spots], [score(row) or 0.0 for row in floors], comparison.better)
    inside = [spot for spot in all_spots if low <= spot.quality <= high]
    bound = limit(comparison, against)
    scale = _Scale.around([spot.cost for spot in inside], bound)
    sheet = Sheet(theme=theme, width=width, x=(scale.low, scale.high), y=(low, high))

    best = [spot for spot in front(comparison, against) if spot in inside]
    crossed = _front(sheet, [(scale(spot.cost), spot.quality) for spot in best])
    visible = [(row, value) for row in floors if low <= (value := score(row) or 0.0) <= high]
    crossed += draw_floors(sheet, comparison, visible)
    _dots(sheet, comparison, inside, best, scale)
    taken = [_around(sheet, scale(spot.cost), spot.quality, 9 if spot.row.winner else 6) for spot in inside]
    sign = 1 if comparison.better == "lower" else -1
    far = [(row, value) for row in floors if sign * (value := score(row) or 0.0) > sign * (high if sign > 0 else low)]
    taken += name_beyond(sheet, far, up=sign > 0)
    taken += _limit(sheet, bound, scale, show, top=sign < 0)
    taken += name_floors(sheet, visible, taken, best_floor(comparison))
    unnamed = 0
    for spot in sorted(inside, key=lambda spot: (not spot.row.winner, spot not in best)):
        box = _name(sheet, spot, scale(spot.cost), best, taken, crossed, far=len(inside) <= 15)
        taken += [box] if box else []
        unnamed += box is None

    ticks = scale.ticks(show, sheet.area[0])
    what = words(comparison).state if against == "state" else "Time of one step"
    sheet.head(f"{comparison.metric} {ARROWS[comparison.better]} {direction(comparison)}")
    away = [f"{spot.row.name} {significant(spot.quality)}" for spot in all_spots if spot not in inside]
    placed = {id(spot.row) for spot in all_spots}
    missing = [row.name for row in comparison.rows if row.kind == "mixer" and id(row) not in placed]
    return sheet.figure(
        note(away=away, missing=missing, unnamed=unnamed),
        title=f"{what} after {past(long_past(comparison) or 0)} tokens, log scale",
        tickvals=[log2(tick) for tick in ticks],
        ticktext=[show(tick) for tick in ticks],
    )


@dataclass(frozen=True)
class _Scale:
    """A logarithmic axis on which a cost of nothing has a place too, left of all others."""

    least: float
    low: float
    high: float

    @classmethod
    def around(cls, costs: Sequence[float], bound: float | None) -> "_Scale":
        positive = [cost for cost in (*costs, bound or 0.0) if cost > 0] or [1.0]
        least = min(positive) / (4.0 if min(costs) <= 0 else 1.0)
        low, high = log2(least), log2(max(positive))
        slack = max(0.09 * (high - low), 2.0 - (high - low) / 2, 0.5)
        return cls(least, low - slack, high + slack)

    def __call__(self, cost: float) -> float:
        return log2(max(cost, self.least))

    def ticks(self, show: Callable[[float], str], room: float) -> list[float]:
        """Powers of two (of ten for times, where finer ones are needed too) with room for their texts."""
        for step in (1, 2, 4, 5, 10, 20):
            powers = [step * power for power in range(ceil(self.low / step), floor(self.high / step) + 1)]
            if len(powers) * 66 <= room:
                break
        return [2.0**power for power in powers]


def _front(sheet: Sheet, points: list[tuple[float, float]]) -> list[Box]:
    """The front as stairs: the best quality to be had for so much; returns the boxes along it."""
    if len(points) < 2:
        return []
    sheet.line(
        points, sheet.theme.ink, 1.2, shape="hv", opacity=0.55, hoverinfo="skip", hovertemplate=None, name="front"
    )
    boxes = []
    for (x, y), (after, better) in pairwise(points):
        left, right, here, there = sheet.across(x), sheet.across(after), sheet.down(y), sheet.down(better)
        boxes += [Box(left, here - 1, right, here + 1), Box(right - 1, min(here, there), right + 1, max(here, there))]
    return boxes


def _limit(sheet: Sheet, bound: float | None, scale: _Scale, show: Callable[[float], str], *, top: bool) -> list[Box]:
    """The limit as a line, with what is beyond it shaded; returns the box of its name."""
    if not bound or bound <= 0:
        return []
    at, text, (wide, high) = scale(bound), f"limit {show(bound)}", sheet.area
    shade = {"x0": at, "x1": sheet.x[1], "yref": "paper", "y0": 0, "y1": 1, "line": {"width": 0}, "opacity": 0.45}
    sheet.shapes.append({"type": "rect", "layer": "below", "fillcolor": sheet.theme.line, **shade})
    sheet.rule((at, sheet.y[0]), (at, sheet.y[1]), sheet.theme.muted, dash="dot")
    room = sheet.box(text, left=0, top=0)
    after = sheet.across(at) + room.right + 6 <= wide
    across = {"xanchor": "left", "xshift": 5} if after else {"xanchor": "right", "xshift": -5}
    down = {"yanchor": "top", "yshift": -2} if top else {"yanchor": "bottom", "yshift": 2}
    sheet.write(text, (at, 1 if top else 0), sheet.theme.muted, yref="paper", **across, **down)
    left = sheet.across(at) + (5 if after else -5 - room.right)
    return [sheet.box(text, left=left, top=2 if top else high - room.bottom - 2)]


def _dots(sheet: Sheet, comparison: Comparison, inside: list[Spot], best: list[Spot], scale: _Scale) -> None:
    """The mixers: the winner large and coloured, the front filled, the others open."""
    theme = sheet.theme
    hollow: dict[str, Any] = {"size": 9, "color": theme.panel, "line": {"color": theme.muted, "width": 1.6}}
    kinds: list[tuple[str, list[Spot], dict[str, Any]]] = [
        ("other", [s for s in inside if s not in best and not s.row.winner], hollow),
        ("front", [s for s in inside if s in best and not s.row.winner], {"size": 10, "color": theme.ink}),
        ("winner", [s for s in inside if s.row.winner], {"size": 17, "color": theme.accent}),
    ]
    for name, members, marker in kinds:
        if members:
            shapes = ["circle" if spot.row.status == "done" else "diamond" for spot in members]
            points = [(scale(spot.cost), spot.quality) for spot in members]
            texts = [hover(comparison, spot.row) for spot in members]
            sheet.dots(points, {"symbol": shapes, "opacity": 1, **marker}, name=name, hovertext=texts)


def _around(sheet: Sheet, x: float, y: float, radius: float) -> Box:
    across, down = sheet.across(x), sheet.down(y)
    return Box(across - radius, down - radius, across + radius, down + radius)


def _name(
    sheet: Sheet, spot: Spot, x: float, best: list[Spot], taken: list[Box], crossed: list[Box], *, far: bool
) -> Box | None:
    """Write the mixer's name where there is room for it; the winner's in any case."""
    theme, radius = sheet.theme, 9 if spot.row.winner else 6
    name, size = short(spot.row.name, 18 if sheet.narrow else 28), sheet.size * (1.08 if spot.row.winner else 1)
    bounds = Box(0, 0, sheet.area[0] + 8, sheet.area[1])

    def search(taken: list[Box], crossed: list[Box]) -> Placed | None:
        here = sheet.across(x), sheet.down(spot.quality)
        return place(*here, name, size=size, radius=radius, taken=taken, crossed=crossed, bounds=bounds, far=far)

    placed = search(taken, crossed) or (search([], taken) if spot.row.winner else None)
    if placed is None:
        return None
    colour = theme.accent if spot.row.winner else theme.ink if spot in best else theme.muted
    shift = {"xshift": placed.across, "yshift": -placed.down}
    if not placed.near:
        shift = {"ax": placed.across, "ay": placed.down, "standoff": radius}
    shift |= {"xanchor": placed.anchor, "yanchor": "middle"}
    sheet.write(name, (x, spot.quality), colour, bold=spot.row.winner, **shift)
    return placed.box
