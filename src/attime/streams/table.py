"""CSV and Parquet files as tables, read by polars; everything in a CSV file stays text until somebody asks for more."""

from pathlib import Path
from typing import TYPE_CHECKING

from attime.errors import AttimeError, MissingExtra

if TYPE_CHECKING:
    import polars

__all__ = ["is_number", "listed", "read_table"]

INDEX = ("", "unnamed: 0", "index", "column_0")


def read_table(path: Path, *, headless: bool = False) -> "polars.DataFrame":
    """The table in a file, without a leading column that only counts rows.

    Commas, semicolons (with decimal commas) and tabs separate; `headless` allows a first line of decimal numbers to be data.
    """
    try:
        import polars
    except ImportError as error:
        raise MissingExtra("polars", "series", f"reading {path.name}") from error
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            table = polars.read_parquet(path)
        else:
            with path.open(encoding="utf-8-sig") as file:
                first = file.readline().rstrip("\r\n")
            mark = max(",;\t", key=first.count)
            bare = headless and "." in first and all(is_number(cell) for cell in first.split(mark))
            table = polars.read_csv(path, separator=mark, infer_schema=False, has_header=not bare)
            if mark == ";":
                table = table.with_columns(polars.all().str.replace(r"^\s*([-+]?\d*),(\d+)\s*$", "${1}.${2}"))
    except (polars.exceptions.PolarsError, UnicodeDecodeError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AttimeError(
            f"{path.name} needs to be CSV in UTF-8 or Parquet, every row as long as the header; it could not be read: "
            f"{reason}."
        ) from None
    table = table.rename({name: name.strip() for name in table.columns})
    first = table.columns[0] if table.columns else None
    if first is not None and first.lower() in INDEX and len(table.columns) > 1:
        count = table[first].cast(polars.Int64, strict=False)
        if (
            len(table) > 1
            and count.null_count() == 0
            and (count == polars.arange(len(table), eager=True) + count[0]).all()
        ):
            table = table.drop(first)
    return table


def is_number(text: str | None) -> bool:
    """Whether text reads as a number; nothing does."""
    try:
        float(text or "nan")
    except ValueError:
        return False
    return True


def listed(names: list[str]) -> str:
    """Names for a message, the first dozen of them."""
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
