"""The lens page: every head's map as a picture over time, what each token looked at, and what the heads do."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attime.errors import AttimeError
from attime.report.lens.roles import ROLES
from attime.report.theme import DARK, LIGHT

__all__ = ["Axis", "Look", "Seen", "look_page", "write_look"]

MOST = 1024
"""Longest axis that is shown; a longer one must be pooled first."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What stands along one side of a map, in order of time."""

    labels: Sequence[str]
    frames: Sequence[int] | None = None
    """For each label the number of its picture in `Look.frames`, or -1."""
    cells: Sequence[int] | None = None
    """For each label its place in that picture, line by line, or -1."""
    grid: tuple[int, int] | None = None
    """Lines and columns of places in a picture."""

    def __post_init__(self) -> None:
        for name in ("frames", "cells"):
            marks = getattr(self, name)
            if marks is not None and len(marks) != len(self.labels):
                raise AttimeError(f"an axis needs {name} for each of its {len(self.labels)} labels; got {len(marks)}.")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One head and its map (query key), rows of sum one."""

    part: str
    kind: str
    layer: int
    head: int
    site: str
    weights: NDArray[np.floating[Any]]
    rows: str
    """Name of the axis of queries in `Look.axes` ..."""
    columns: str
    """... and of keys."""
    roles: Mapping[str, float] = field(default_factory=dict)
    """What it does, as `roles.ROLES` has it, and how much, 0 to 1."""
    measures: Mapping[str, float] = field(default_factory=dict)
    """What else is measured of it, in words, with numbers."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """One run of a model, looked at."""

    title: str
    answer: str = ""
    """What the model said or made."""
    axes: Mapping[str, Axis]
    heads: Sequence[Seen]
    frames: Sequence[NDArray[np.uint8]] = ()
    """Pictures (height, width, 3) that stand beside the maps."""
    notes: Sequence[str] = ()
    """Sentences on what was cut, joined or left out."""

    def __post_init__(self) -> None:
        for head in self.heads:
            sizes = tuple(len(self.axes[name].labels) for name in (head.rows, head.columns))
            if head.weights.shape != sizes or max(sizes) > MOST:
                raise AttimeError(
                    f"a look needs maps of the sizes of their axes, {MOST} at most; {head.site} head {head.head} has "
                    f"{head.weights.shape} for {sizes}: pool it."
                )


def look_page(look: Look) -> str:
    """The HTML of the page."""
    heads = [
        {
            "part": head.part,
            "kind": head.kind,
            "layer": head.layer,
            "head": head.head,
            "site": head.site,
            "rows": head.rows,
            "columns": head.columns,
            "roles": {name: round(float(value), 3) for name, value in head.roles.items()},
            "measures": {name: float(f"{value:.3g}") for name, value in head.measures.items()},
            "map": _coded(head.weights),
        }
        for head in look.heads
    ]
    axes = {
        name: {
            "labels": list(axis.labels),
            "frames": None if axis.frames is None else list(axis.frames),
            "cells": None if axis.cells is None else list(axis.cells),
            "grid": axis.grid,
        }
        for name, axis in look.axes.items()
    }
    data = {"heads": heads, "axes": axes, "frames": [_picture(frame) for frame in look.frames]}
    return _template().render(
        look=look,
        roles={role: ROLES.get(role, "") for role in sorted({role for head in look.heads for role in head.roles})},
        data=json.dumps(data).replace("<", "\\u003c"),
        light=asdict(LIGHT),
        dark=asdict(DARK),
        style=_text("look.css"),
        script="\n".join(_text(f"{name}.js") for name in ("maps", "look")),
    )


def write_look(look: Look, path: Path | str) -> Path:
    """Write the page to a file."""
    path = Path(path)
    try:
        path.write_text(look_page(look), encoding="utf-8")
    except OSError as error:
        raise AttimeError(f"the page cannot be written to {path}: {error.strerror}.") from None
    return path


def _coded(weights: NDArray[np.floating[Any]]) -> str:
    """Square roots of weights as bytes: a thousandth is still to be seen."""
    return base64.b64encode(np.rint(255 * np.sqrt(np.clip(weights, 0, 1))).astype(np.uint8).tobytes()).decode()


def _picture(frame: NDArray[np.uint8]) -> str:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(frame).save(out, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


def _text(name: str) -> str:
    return files("attime.report.lens").joinpath(name).read_text(encoding="utf-8")


@cache
def _template() -> Any:
    from jinja2 import Environment

    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(_text("look.html.j2"))
