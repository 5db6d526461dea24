"""A comparison as a table: for the terminal and as Markdown."""

import re

from rich import box
from rich.table import Table
from rich.text import Text

from attime.report.columns import Column, columns, direction, ranked
from attime.tasks.result import Comparison, Row

__all__ = ["mark", "markdown", "notes", "remark", "table"]

WINNER, PARETO = "★", "●"
NAME = 24
_FATE = {"partial": "interrupted before its end.", "failed": "no reason was recorded."}


def table(comparison: Comparison, *, width: int | None = None) -> Table:
    """The rows of a comparison, best first, floors among them.

    With a `width` in characters, the columns that matter least are left out until the table fits.
    """
    rows, shown = ranked(comparison), _fitting(comparison, width)
    out = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=Text(f"{comparison.protocol}: {comparison.metric}, {direction(comparison)}"),
        title_justify="left",
        caption=Text("\n".join(["", *notes(comparison)])),
        caption_justify="left",
    )
    out.add_column("", width=1)
    out.add_column("", overflow="fold")
    for column in shown:
        out.add_column(Text(column.title), justify="right", no_wrap=True, vertical="bottom")
    for row in rows:
        name = Text.assemble(row.name, (f" ({remark(row)})" if remark(row) else "", "not bold dim"))
        out.add_row(Text(mark(row)), name, *(Text(column.cell(row)) for column in shown), style=_style(row))
    return out


def markdown(comparison: Comparison) -> str:
    """The same table as Markdown, with the answer above it and its notes below."""
    shown = columns(comparison)
    head = ["", *(_flat(column.title) for column in shown)]
    lines = [_plain(comparison.answer), "", _line(head), _line(["---", *("---:" for _ in shown)])]
    for row in ranked(comparison):
        name = " ".join(part for part in (mark(row), _plain(row.name), _wrapped(remark(row))) if part)
        cells = [f"**{name}**" if row.winner else name, *(column.cell(row) for column in shown)]
        lines.append(_line(cells))
    return "\n".join([*lines, "", *(f"- {_plain(note)}" for note in notes(comparison))]) + "\n"


def mark(row: Row) -> str:
    """★ for the winner, ● for the Pareto-optimal."""
    return WINNER if row.winner else PARETO if row.pareto else ""


def remark(row: Row) -> str:
    """What to know about a row beside its numbers: a floor, not finished, over the limits."""
    if row.kind == "floor":
        return "floor"
    said = [row.status] if row.status != "done" else []
    return ", ".join([*said, *(["over limits"] if not row.within_limits else [])])


def notes(comparison: Comparison) -> list[str]:
    """The legend of the marks in use, and what befell the trials that did not finish."""
    rows = comparison.rows
    legend = [
        *([f"{WINNER} winner"] if any(row.winner for row in rows) else []),
        *(
            [f"{PARETO} Pareto-optimal in quality and state"]
            if any(row.pareto and not row.winner for row in rows)
            else []
        ),
        *(["floor: needs no attention"] if any(row.kind == "floor" for row in rows) else []),
    ]
    broken = [row for row in rows if row.status != "done"]
    said = [f"{row.name} ({row.status}): {row.error or _FATE[row.status]}" for row in broken]
    if comparison.partial and not broken:
        said = ["This comparison was interrupted: not every trial was run."]
    return [*(["; ".join(legend)] if legend else []), *said]


def _style(row: Row) -> str:
    if row.winner:
        return "bold cyan"
    if row.status == "failed" or not row.within_limits:
        return "dim"
    return "italic" if row.kind == "floor" else ""


def _fitting(comparison: Comparison, width: int | None) -> list[Column]:
    """The columns, without those of least need that would not fit."""
    rows, shown = comparison.rows, list(columns(comparison))
    longest = max((len(f"{row.name} ({remark(row)})") for row in rows), default=0)
    fixed = 3 + min(longest, NAME if width is None else max(NAME, width // 3))  # longer ones are folded

    def total() -> int:
        parts = ((*column.title.split("\n"), *(column.cell(row) for row in rows)) for column in shown)
        return fixed + sum(2 + max(map(len, each)) for each in parts)  # a space beside each cell and one between

    while width is not None and len(shown) > 1 and total() > width:
        shown.remove(min(reversed(shown), key=lambda column: column.need))
    return shown


def _flat(title: str) -> str:
    return _plain(title.replace("-\n", "").replace("\n", " "))


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", text)


def _wrapped(text: str) -> str:
    return f"({text})" if text else ""


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
