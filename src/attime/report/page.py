"""The report as one HTML page: text, table and charts in a single file that works without a network."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from math import isfinite
from pathlib import Path
from typing import Any

from attime.report.columns import Column, best_floor, columns, direction, long_past, ranked
from attime.report.table import mark, remark
from attime.report.theme import DARK, LIGHT
from attime.report.units import count, memory, milliseconds, past
from attime.report.words import words
from attime.tasks.result import Comparison, Row

__all__ = ["page", "write_page"]

WIDTHS = (300, 520, 840)
"""Each chart is laid out for these widths in pixels; the page shows the widest that fits."""


def page(comparison: Comparison, *, folder: str = "attime-compare/winner") -> str:
    """The HTML of the report. `folder` is where the trained winner lies, as the page tells the reader."""
    from plotly.offline import get_plotlyjs

    winner = next((row for row in comparison.rows if row.winner), None)
    shown = columns(comparison)
    return _template().render(
        run=comparison,
        words=words(comparison),
        direction=direction(comparison),
        winner=winner,
        facts=_facts(comparison, winner) if winner else [],
        broken=[row for row in comparison.rows if row.status != "done"],
        titles=[column.title.replace("-\n", "") for column in shown],
        lines=[_cells(row, shown) for row in ranked(comparison)],
        figures=_figures(comparison),
        colours=dict(zip(asdict(LIGHT).values(), asdict(DARK).values(), strict=True)),
        light=asdict(LIGHT),
        dark=asdict(DARK),
        recipe=""
        if winner is None
        else _recipe(winner, folder)
        if comparison.kind == "attention"
        else _attached(winner),
        limits=[_limit(name, value) for name, value in comparison.limits.items()],
        settings=_words(comparison.settings),
        machine=_words(comparison.machine),
        style=_text("page.css"),
        script=_text("page.js"),
        plotly=get_plotlyjs(),
    )


def write_page(comparison: Comparison, path: Path | str) -> Path:
    """Write the report to a file and return its path; the trained winner is taken to lie in `winner` beside it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(comparison, folder=(path.parent / "winner").as_posix()), encoding="utf-8")
    return path


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    house = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    house.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    house.filters["breakable"] = lambda text: Markup("<wbr>").join(re.split(r"(?<=\w[+(])", text))
    house.filters["calls"] = lambda text: Markup(re.sub(r"\w+\(\)", r"<code>\g<0></code>", text))
    return house.from_string(_text("page.html.j2"))


def _text(name: str) -> str:
    return files("attime.report").joinpath(name).read_text(encoding="utf-8")


def _cells(row: Row, shown: tuple[Column, ...]) -> dict[str, Any]:
    """A row of the table: its texts, and the bare numbers to sort by."""
    numbers = [column.value(row) for column in shown]
    said = remark(row).split(", ") if remark(row) else []
    return {
        "row": row,
        "mark": mark(row),
        "tags": [*(["winner"] if row.winner else ["Pareto"] if row.pareto else []), *said],
        "cells": [column.cell(row) for column in shown],
        "numbers": ["" if number is None or not isfinite(number) else repr(number) for number in numbers],
    }


def _facts(comparison: Comparison, winner: Row) -> list[tuple[str, str, str]]:
    """The winner in four numbers: what it is, the number, what to hold it against."""
    floor, far = best_floor(comparison), long_past(comparison)
    quality = columns(comparison)[0]
    out = [(comparison.metric, quality.cell(winner), f"best floor {quality.cell(floor)}" if floor else "")]
    kinds: list[tuple[str, Mapping[int, float], Callable[[float], str]]] = [
        (words(comparison).state, winner.state_bytes, memory),
        ("Step", winner.step_ms, milliseconds),
    ]
    for name, values, show in kinds:
        if far is not None and far in values:
            near = min(values)
            then = "the same" if show(values[near]) == show(values[far]) else show(values[near])
            out.append(
                (f"{name} after {past(far)}", show(values[far]), f"{then} after {past(near)}" if near != far else "")
            )
    if winner.train_tokens_per_s is not None and isfinite(winner.train_tokens_per_s):
        size = f"{count(winner.parameters)} parameters" if winner.parameters is not None else ""
        out.append((words(comparison).speed, f"{count(winner.train_tokens_per_s)} tokens/s", size))
    return out


def _figures(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """Every chart the reader can choose: its name, its traces, and a layout for each width."""
    from attime.report.curves import curves
    from attime.report.frontier import frontier

    makers: dict[str, dict[str, Callable[[int], Any]]] = {
        "frontier": {
            "Memory": lambda width: frontier(comparison, against="state", width=width),
            "Step time": lambda width: frontier(comparison, against="step", width=width),
        },
        "curves": {
            f"{comparison.metric} by time": lambda width: curves(comparison, across="seconds", width=width),
            f"{comparison.metric} by tokens": lambda width: curves(comparison, across="tokens", width=width),
            "Loss by time": lambda width: curves(comparison, across="seconds", measure="loss", width=width),
            "Loss by tokens": lambda width: curves(comparison, across="tokens", measure="loss", width=width),
        },
    }
    out: dict[str, dict[str, Any]] = {}
    for place, choices in makers.items():
        out[place] = {}
        for name, make in choices.items():
            drawn = {width: figure for width in WIDTHS if (figure := make(width)) is not None}
            plain = {width: json.loads(figure.to_json()) for width, figure in drawn.items()}
            if plain:
                out[place][name] = {
                    "data": plain[WIDTHS[-1]]["data"],
                    "layouts": {width: figure["layout"] for width, figure in plain.items()},
                }
    return out


def _recipe(winner: Row, folder: str) -> str:
    """Code that uses the trained winner, and code that builds the same model anew."""
    lines = [
        "import attime",
        "",
        f"model = attime.load({folder!r})",
        "outputs, state = model.step(x)         # a first chunk, of any length",
        "outputs, state = model.step(x, state)  # the next one; the state is all it remembers",
    ]
    if "mixer" in winner.options:
        options = ", ".join(f"{name}={value!r}" for name, value in winner.options.items() if value is not None)
        lines += [
            "",
            "# the same model, untrained",
            "from attime.models.recipe import Recipe",
            "",
            f"model = Recipe({options}).build()",
        ]
    return "\n".join(lines)


def _attached(winner: Row) -> str:
    """Code that puts the winner under a model."""
    return "\n".join(
        [
            "from attime.hub import attach",
            "from attime.memory.named import find_policy",
            "",
            f"with attach(model, find_policy({winner.name!r})):",
            "    model.generate(**inputs)  # any length, in this memory",
        ]
    )


def _limit(name: str, value: float) -> str:
    if "state" in name:
        return f"state of at most {memory(value)}"
    return f"step of at most {milliseconds(value)}" if "step" in name else f"{name.replace('_', ' ')}: {value:g}"


def _words(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values as text; what is not set is left out."""
    return [
        (name.replace("_", " "), f"{value:g}" if isinstance(value, float) else str(value))
        for name, value in values.items()
        if value is not None and value != ""
    ]
