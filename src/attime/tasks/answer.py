"""From measured rows to an answer: which rows are Pareto-optimal, which meet the limits, who wins and by how much."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from attime.tasks.contract import Metric
from attime.tasks.result import Row

__all__ = ["answer", "judged"]


def judged(rows: Sequence[Row], metric: Metric, limits: Mapping[str, float]) -> tuple[Row, ...]:
    """The rows with `pareto`, `within_limits` and `winner` set; best first, floors among them.

    `limits` may hold `max_state_bytes` and `max_step_ms`; both are about the longest past that was measured.
    """
    sign = 1.0 if metric.better == "lower" else -1.0
    rows = [replace(row, pareto=False, winner=False, within_limits=_within(row, limits)) for row in rows]
    mixers = [row for row in rows if row.kind == "mixer" and row.status == "done" and row.quality is not None]
    points = {row.name: (sign * (row.quality or 0.0), max(row.state_bytes.values(), default=0)) for row in mixers}

    def beaten(name: str) -> bool:
        q, b = points[name]
        return any(other[0] <= q and other[1] <= b and other != (q, b) for other in points.values())

    allowed = [row for row in mixers if row.within_limits]
    best = min(allowed, key=lambda row: points[row.name], default=None)
    rows = [
        replace(row, pareto=row.name in points and not beaten(row.name), winner=row is best)
        if row.kind == "mixer"
        else row
        for row in rows
    ]
    return tuple(sorted(rows, key=lambda row: (row.quality is None, sign * (row.quality or 0.0))))


def answer(rows: Sequence[Row], metric: Metric, limits: Mapping[str, float]) -> str:
    """One sentence: the winner and by how much, or that nothing beats the floor."""
    sign = 1.0 if metric.better == "lower" else -1.0
    winner = next((row for row in rows if row.winner), None)
    floors = [row for row in rows if row.kind == "floor" and row.quality is not None]
    floor = min(floors, key=lambda row: sign * (row.quality or 0.0), default=None)
    if winner is None or winner.quality is None:
        done = [row for row in rows if row.kind == "mixer" and row.status == "done"]
        if done and limits:
            return f"No mixer stays within the limits ({_words(limits)}); the table says what each needs."
        return "No mixer finished; run the same command again to go on."
    others = [
        row for row in rows if row.kind == "mixer" and row.within_limits and not row.winner and row.quality is not None
    ]
    second = min(others, key=lambda row: sign * (row.quality or 0.0), default=None)
    beside = f", {_gap(winner, second)} better than the next mixer, {second.name}" if second is not None else ""
    within = f" within the limits ({_words(limits)})" if limits else ""
    reached = f"{winner.quality:.4g} {metric.unit}"
    if floor is not None and floor.quality is not None and sign * (winner.quality - floor.quality) >= 0:
        return (
            f"Nothing beats the floor in this budget: {floor.name} has {floor.quality:.4g} {metric.unit}; "
            f"the best mixer{within} is {winner.name} with {reached}{beside}."
        )
    above = f", {_gap(winner, floor)} better than the best floor, {floor.name}" if floor is not None else ""
    return f"Use {winner.name}{within}: {reached}{above}{' and' if above and beside else ''}{beside.removeprefix(',') if above else beside}."


def _within(row: Row, limits: Mapping[str, float]) -> bool:
    if row.kind != "mixer":
        return True
    held, took = max(row.state_bytes.values(), default=0), max(row.step_ms.values(), default=0.0)
    return held <= limits.get("max_state_bytes", float("inf")) and took <= limits.get("max_step_ms", float("inf"))


def _gap(ours: Row, theirs: Row) -> str:
    gap, size = abs((ours.quality or 0.0) - (theirs.quality or 0.0)), abs(theirs.quality or 0.0)
    return f"{gap:.3g}" + (f" ({gap / size:.1%})" if size else "")


def _words(limits: Mapping[str, float]) -> str:
    units = {"max_state_bytes": "bytes of state", "max_step_ms": "ms a step"}
    return ", ".join(f"at most {value:g} {units[name]}" for name, value in limits.items())
