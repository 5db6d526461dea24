"""Numbers as people read them: bytes, milliseconds, counts and pasts, with three significant digits."""

from collections.abc import Sequence
from math import ceil, floor, isfinite, log10
from statistics import median

__all__ = ["count", "decimals", "memory", "milliseconds", "past", "significant"]


def significant(value: float, digits: int = 3) -> str:
    """`value` with so many significant digits and no trailing zeros: 1.5, 0.042, 128, 1340."""
    if not isfinite(value) or value == 0:
        return f"{value:.0f}"
    places = max(0, digits - 1 - floor(log10(abs(value))))
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def memory(size: float) -> str:
    """Bytes in binary units: `512 B`, `32 KiB`, `1.25 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1023.5:
            return f"{significant(size)} {unit}"
        size /= 1024
    return f"{significant(size)} TiB"


def milliseconds(value: float) -> str:
    """Milliseconds, or seconds from one second on: `0.042 ms`, `12.3 ms`, `1.5 s`."""
    return f"{significant(value)} ms" if value < 999.5 else f"{significant(value / 1000)} s"


def count(value: float) -> str:
    """A count in thousands, millions or billions: `950`, `18.4k`, `1.2M`."""
    for unit in ("", "k", "M"):
        if abs(value) < 999.5:
            return f"{significant(value)}{unit}"
        value /= 1000
    return f"{significant(value)}B"


def past(tokens: int) -> str:
    """A number of past tokens in binary thousands where it is one: `1k`, `64k`, `1500`."""
    return f"{tokens // 1024}k" if tokens and tokens % 1024 == 0 else str(tokens)


def decimals(values: Sequence[float], digits: int = 4) -> int:
    """How many decimals give the typical value so many significant digits, so that a column lines up."""
    sizes = [abs(value) for value in values if isfinite(value) and value != 0]
    return min(6, max(0, digits - ceil(log10(median(sizes)) + 1e-12))) if sizes else 0
