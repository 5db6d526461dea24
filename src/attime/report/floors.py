"""Floors in the chart of quality against cost: dashed lines with their names, and those that lie off its scale."""

from attime.report.chart import Sheet, plain
from attime.report.columns import columns
from attime.report.labels import LINE, Box, text_width
from attime.report.table import remark
from attime.report.units import significant
from attime.tasks.result import Comparison, Row

__all__ = ["draw_floors", "hover", "name_beyond", "name_floors"]


def draw_floors(sheet: Sheet, comparison: Comparison, floors: list[tuple[Row, float]]) -> list[Box]:
    """A dashed line for each floor, with points to hover on."""
    steps = [sheet.x[0] + (sheet.x[1] - sheet.x[0]) * step / 24 for step in range(25)]
    for row, value in floors:
        points, name = [(x, value) for x in steps], plain(row.name)
        sheet.line(points, sheet.theme.floor, 1.2, dash="dash", name=name, hovertext=hover(comparison, row))
    return [Box(0, sheet.down(value) - 1, sheet.area[0], sheet.down(value) + 1) for _, value in floors]


def name_floors(sheet: Sheet, floors: list[tuple[Row, float]], taken: list[Box], best: Row | None) -> list[Box]:
    """A name on each floor's line where it is free: at the right first, above the line first."""
    named: list[Box] = []
    wide, high = sheet.area
    frame, lines = Box(0, 0, wide, high), [sheet.down(value) for _, value in floors]
    for (row, value), line in zip(floors, lines, strict=True):
        text = f"{row.name} (floor)" if row is best else row.name
        others = [Box(0, other - 1, wide, other + 1) for other in lines if other != line]
        room = sheet.box(text, left=0, top=0)
        for anchor, share in (("right", 1.0), ("left", 0.0), ("center", 0.5), ("center", 0.75), ("center", 0.25)):
            shift = {"right": -4, "left": 4, "center": 0}[anchor]
            left = share * wide + shift - room.right * {"right": 1.0, "left": 0.0, "center": 0.5}[anchor]
            tops = {"bottom": line - room.bottom - 1, "top": line + 2}
            boxes = {side: sheet.box(text, left=left, top=top) for side, top in tops.items()}
            busy = (*taken, *named, *others)
            free = [s for s, box in boxes.items() if box.within(frame) and not any(map(box.meets, busy))]
            if free:
                named.append(boxes[free[0]])
                where = {"xref": "paper", "xanchor": anchor, "xshift": shift, "yanchor": free[0]}
                sheet.write(text, (share, value), sheet.theme.floor, **where)
                break
    return named


def name_beyond(sheet: Sheet, floors: list[tuple[Row, float]], up: bool) -> list[Box]:
    """Floors off the scale: named with their values at the edge that they lie beyond, over one dashed line."""
    if not floors:
        return []
    (wide, high), arrow, told = sheet.area, "↑" if up else "↓", len(floors)

    def text() -> str:
        rest = f" · {len(floors) - told} more" if told < len(floors) else ""
        shown = " · ".join(f"{row.name} {significant(value, 4)}" for row, value in floors[:told])
        return f"{arrow} {'floor' if len(floors) == 1 else 'floors'}: {shown}{rest}"

    while told > 1 and text_width(text(), sheet.size) > wide - 8:
        told -= 1
    strip = LINE * sheet.size + 6
    level = sheet.y[1] - (strip if up else high - strip) / high * (sheet.y[1] - sheet.y[0])
    sheet.rule((sheet.x[0], level), (sheet.x[1], level), sheet.theme.floor, dash="dash")
    edge = {"yref": "paper", "yanchor": "top" if up else "bottom", "yshift": -2 if up else 2}
    sheet.write(text(), (1, 1 if up else 0), sheet.theme.floor, xref="paper", xanchor="right", xshift=-4, **edge)
    return [Box(0, 0, wide, strip) if up else Box(0, high - strip, wide, high)]


def hover(comparison: Comparison, row: Row) -> str:
    """Every number of the row."""
    said = [row.name, *([remark(row)] if remark(row) else [])]
    numbers = [
        f"{column.title.replace('-' + chr(10), '').replace(chr(10), ' ')}: {column.cell(row)}"
        for column in columns(comparison)
        if column.value(row) is not None
    ]
    head, *rest = (plain(line) for line in (*said, *numbers))
    return "<br>".join([f"<b>{head}</b>", *rest])
