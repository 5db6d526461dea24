"""The colours of the report: ink on paper and one accent, told apart without hue and readable in light and dark."""

from dataclasses import dataclass

__all__ = ["DARK", "LIGHT", "Theme"]


@dataclass(frozen=True, kw_only=True)
class Theme:
    """Colours by what they say. Text colours have a contrast of at least 4.5 on `paper` and on `panel`."""

    paper: str
    panel: str
    """Behind the charts, the table and the code."""
    ink: str
    muted: str
    """Secondary text, and mixers that are not on the front."""
    line: str
    """Rules and grids."""
    accent: str
    """The winner, and links."""
    wash: str
    """A breath of the accent, behind the winner's row."""
    floor: str
    """Floors: lines and names."""
    alarm: str
    """What went wrong."""


LIGHT = Theme(
    paper="#f7f8f9",
    panel="#ffffff",
    ink="#1b222c",
    muted="#5a6573",
    line="#e1e5ea",
    accent="#0b62b4",
    wash="#edf4fb",
    floor="#6b5a35",
    alarm="#a33a12",
)
DARK = Theme(
    paper="#12151a",
    panel="#191d24",
    ink="#e7eaee",
    muted="#a3adba",
    line="#2d343e",
    accent="#78b8f5",
    wash="#1b2a3a",
    floor="#cdb98c",
    alarm="#f2a285",
)
