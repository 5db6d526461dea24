"""A quiet table for the terminal: no frame, numbers to the right."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

__all__ = ["listing"]


def listing(
    headers: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "", whole: Sequence[str] | None = None
) -> Table:
    """A table of any values: numbers are aligned to the right, text is taken as it is (no markup).

    With `whole`, every row is one line: the columns it names are shown whole, the others cut to what fits.
    """
    rows = [tuple(row) for row in rows]
    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, title=Text(title) if title else None, title_justify="left"
    )
    for place, header in enumerate(headers):
        numbers = [row[place] for row in rows if row[place] is not None]
        right = bool(numbers) and all(
            isinstance(value, int | float) and not isinstance(value, bool) for value in numbers
        )
        widest = max((len(str(row[place])) for row in rows), default=0) if header in (whole or ()) else None
        side = "right" if right else "left"
        table.add_column(Text(header), justify=side, no_wrap=whole is not None, min_width=widest)
    for row in rows:
        table.add_row(
            *(value if isinstance(value, Text) else Text("" if value is None else str(value)) for value in row)
        )
    return table
