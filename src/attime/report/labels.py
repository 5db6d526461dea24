"""Where names go in a chart so that none lies on another: boxes in pixels, y downwards."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["Box", "Placed", "place", "spread", "text_width"]

LINE = 1.3
"""Height of a line of text in font sizes."""
GLYPH = 0.6
"""Width of a letter in font sizes: a wide typeface, so that labels fit in any."""


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "Box") -> bool:
        """Whether the two overlap."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def within(self, other: "Box") -> bool:
        """Whether it lies wholly inside `other`."""
        across = self.left >= other.left and self.right <= other.right
        return across and self.top >= other.top and self.bottom <= other.bottom


@dataclass(frozen=True)
class Placed:
    """A place found for a label: its box, and how it hangs on the point that it names."""

    box: Box
    anchor: Literal["left", "center", "right"]
    """Which part of the text is put `across` pixels from the point; its middle is put `down` pixels below it."""
    across: float
    down: float
    near: bool
    """So close to its point that it needs no leader line."""


def text_width(text: str, size: float) -> float:
    """Pixels that a line of text may take."""
    return GLYPH * size * len(text)


def place(
    x: float,
    y: float,
    text: str,
    *,
    size: float,
    radius: float,
    taken: Iterable[Box],
    crossed: Iterable[Box],
    bounds: Box,
    far: bool = True,
) -> Placed | None:
    """The best free place for the name of a point: on nothing of `taken`, rather not on `crossed`; None if all are full.

    With `far`, places a little away from the point are tried too.
    """
    wide, high = text_width(text, size), LINE * size
    taken, crossed = tuple(taken), tuple(crossed)
    found: list[tuple[float, Placed]] = []
    for rank, (anchor, across, down, near) in enumerate(_candidates(high, radius)):
        left = x + across - wide * {"left": 0.0, "center": 0.5, "right": 1.0}[anchor]
        box = Box(left, y + down - high / 2, left + wide, y + down + high / 2)
        if (near or far) and box.within(bounds) and not any(map(box.meets, taken)):
            found.append((rank + 6.0 * sum(map(box.meets, crossed)), Placed(box, anchor, across, down, near)))
    return min(found, key=lambda each: each[0])[1] if found else None


def _candidates(high: float, radius: float) -> list[tuple[Literal["left", "center", "right"], float, float, bool]]:
    """Beside, above and below the point; then the same further away, to be joined to it by a line."""
    out = []
    for step, near in ((radius + 4, True), (radius + 14, False), (radius + 26, False)):
        lift = step + high / 2 - 2
        out += [("left", step, 0.0, near), ("right", -step, 0.0, near)]
        out += [("center", 0.0, -lift, near), ("center", 0.0, lift, near)]
        out += [("left", step - 4, -lift, near), ("left", step - 4, lift, near)]
        out += [("right", 4 - step, -lift, near), ("right", 4 - step, lift, near)]
    return out


def spread(wanted: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """Positions at least `gap` apart between `low` and `high`, as near to the `wanted` ones as can be (in least squares).

    If there is not room for all, the gap shrinks.
    """
    if not wanted:
        return []
    gap = min(gap, (high - low) / max(1, len(wanted) - 1))
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    # Without the gaps it is a monotone regression: neighbours out of order share their mean.
    pools: list[tuple[float, int]] = []
    for rank, index in enumerate(order):
        mean, members = wanted[index] - rank * gap, 1
        while pools and pools[-1][0] >= mean:
            before, others = pools.pop()
            mean, members = (mean * members + before * others) / (members + others), members + others
        pools.append((mean, members))
    flat = [mean for mean, members in pools for _ in range(members)]
    top = high - gap * (len(wanted) - 1)
    out = [0.0] * len(wanted)
    for rank, index in enumerate(order):
        out[index] = min(max(flat[rank], low), top) + rank * gap
    return out
