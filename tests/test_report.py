"""The report as text and as figures: what stands in the table, in Markdown and in the charts."""

import io
import json
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import report_cases as cases
from attime.report import listing, markdown, page, table, write_page
from attime.report.chart import short, window
from attime.report.columns import best_floor, columns, long_past, ranked
from attime.report.curves import curves
from attime.report.frontier import front, frontier
from attime.report.labels import Box, place, spread
from attime.report.page import WIDTHS
from attime.report.theme import DARK, LIGHT, Theme
from attime.report.units import count, decimals, memory, milliseconds, past, significant
from attime.tasks.result import Comparison, Row


def drawn(figure: Any) -> Any:
    """The figure, which must be there."""
    assert figure is not None
    return figure


@cache
def written(case) -> str:
    return page(case(), folder="runs/winner")


every = pytest.mark.parametrize("case", cases.ALL, ids=lambda case: case.__name__)


def printed(what: object, width: int = 160) -> str:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(what)
    return out.getvalue()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (memory(512), "512 B"),
        (memory(1024), "1 KiB"),
        (memory(1_310_720), "1.25 MiB"),
        (memory(1023.9 * 1024), "1 MiB"),
        (memory(3 * 1024**4), "3 TiB"),
        (memory(0), "0 B"),
        (milliseconds(0.0421), "0.0421 ms"),
        (milliseconds(12.34), "12.3 ms"),
        (milliseconds(1500.0), "1.5 s"),
        (count(950), "950"),
        (count(18_432), "18.4k"),
        (count(999_900), "1M"),
        (past(1024), "1k"),
        (past(65536), "64k"),
        (past(1500), "1500"),
        (significant(0.000123), "0.000123"),
        (significant(float("nan")), "nan"),
        (short("SlidingWindow(window=64, sinks=4)", 24), "SlidingWindow(64, 4)"),
        (short("SlidingWindow(window=64, sinks=4)", 12), "SlidingWind…"),
    ],
)
def test_numbers_read_well(said, expected):
    assert said == expected


@pytest.mark.parametrize(
    ("values", "places"), [([1.47, 1.9], 3), ([0.386], 4), ([12.4, 0.0], 2), ([4000.0], 0), ([], 0)]
)
def test_a_column_has_four_digits(values, places):
    assert decimals(values) == places


def test_rows_stand_in_order_with_floors_among_them():
    names = [row.name for row in ranked(cases.nothing_beats_the_floor())]
    assert names[:4] == ["trigram", "gzip of the past", "Softmax", "bigram"]
    assert [row.name for row in ranked(cases.partial())][-3:] == ["Decay", "NeuralMemory", "HashedBlocks"]
    floor = best_floor(cases.full())
    assert floor is not None
    assert floor.name == "trigram"


def test_columns_without_a_number_are_left_out():
    titles = [column.title.replace("\n", " ") for column in columns(cases.nothing_finished())]
    assert titles == ["bits per byte ↓"]
    assert long_past(cases.nothing_finished()) is None


def test_the_table_shows_every_row_and_its_marks():
    lines = printed(table(cases.limited())).splitlines()
    row = {name: next(line for line in lines if name in line) for name in ("GatedDelta", "Softmax", "trigram", "Decay")}
    assert "★" in row["GatedDelta"]
    assert [cell for cell in ("1.438", "68 KiB", "0.55 ms", "17.8k", "422k") if cell not in row["GatedDelta"]] == []
    assert "●" in row["Softmax"]
    assert "over limits" in row["Softmax"]
    assert "128 MiB" in row["Softmax"]
    assert "floor" in row["trigram"]
    assert lines.index(row["Softmax"]) < lines.index(row["GatedDelta"]) < lines.index(row["trigram"])
    assert "lower is better" in lines[0]


def test_rows_over_the_limits_and_failed_rows_are_dim_and_the_winner_is_bold():
    comparison = cases.partial()
    styles = dict(zip((row.name for row in ranked(comparison)), table(comparison).rows, strict=True))
    assert styles["Softmax"].style == styles["NeuralMemory"].style == "dim"
    assert styles["trigram"].style == "italic"
    assert "bold" in str(styles["GatedDelta"].style)


@pytest.mark.parametrize("width", [60, 80, 100, 130])
@every
def test_the_table_fits_a_terminal(case, width):
    comparison = case()
    text = printed(table(comparison, width=width), width)
    assert max(map(len, text.splitlines())) <= width
    shown = {len(column.title) for column in columns(comparison)}
    assert shown
    if width >= 80 and case is not cases.nothing_finished:
        assert "64k" in text


def test_a_partial_result_names_what_broke_and_why():
    for text in (printed(table(cases.partial())), markdown(cases.partial())):
        flat = text.replace("\\", "")
        assert "NeuralMemory (failed): the loss became NaN at step 310; lower --learning-rate." in flat
        assert "Decay (partial)" in flat
    cut = replace(cases.full(), partial=True)
    assert "interrupted" in markdown(cut)


def test_markup_in_names_is_only_text():
    text = printed(table(cases.hostile()))
    assert "[red]rich[/red] & co" in text
    lines = markdown(cases.hostile()).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    cells = {line.replace("\\|", "").count("|") for line in rows}
    assert len(cells) == 1
    assert "<script" not in "\n".join(lines)
    assert "\\[red\\]rich" in "\n".join(lines)


def test_markdown_begins_with_the_answer():
    lines = markdown(cases.full()).splitlines()
    assert lines[0].startswith("Use Softmax: 1.412 bits")
    assert lines[2].startswith("|  | bits per byte ↓ | State 1k | State 64k | Step 1k | Step 64k | Train tok/s |")
    assert lines[4].startswith("| **★ Softmax** | 1.412 | 2 MiB | 128 MiB |")


def test_a_listing_takes_any_values():
    text = printed(listing(["name", "number"], [("[b]x[/b]", 1), ("y", 22), ("z", None)], title="[t]"))
    assert "[t]" in text
    assert [line.split() for line in text.splitlines()[-3:]] == [["[b]x[/b]", "1"], ["y", "22"], ["z"]]
    assert "None" not in text
    assert printed(listing(["alone"], [])).split() == ["alone", "─" * 5]


@given(st.lists(st.floats(0, 400), max_size=30), st.floats(1, 40))
def test_spread_keeps_the_gap_and_the_order(wanted, gap):
    found = spread(wanted, gap=gap, low=0, high=400)
    gap = min(gap, 400 / max(1, len(wanted) - 1))
    placed = sorted(found)
    assert all(after - before >= gap - 1e-6 for before, after in pairwise(placed))
    assert all(-1e-6 <= value <= 400 + 1e-6 for value in found)
    if all(abs(a - b) >= gap for i, a in enumerate(wanted) for b in wanted[:i]):
        assert found == pytest.approx(wanted)


@given(st.lists(st.tuples(st.floats(0, 300), st.floats(0, 300)), min_size=1, max_size=25))
@settings(max_examples=50)
def test_placed_names_never_overlap(points):
    bounds, taken = Box(0, 0, 300, 300), []
    for x, y in points:
        found = place(x, y, "a name", size=12, radius=5, taken=taken, crossed=[], bounds=bounds)
        if found:
            assert found.box.within(bounds)
            assert not any(map(found.box.meets, taken))
            taken.append(found.box)


@pytest.mark.parametrize(
    ("mixers", "floors", "better", "inside", "outside"),
    [
        ([1.4, 1.5, 1.6], [1.8], "lower", [1.4, 1.6, 1.8], []),
        ([1.4, 1.5, 1.6], [2.5], "lower", [1.4, 1.6], [2.5]),
        ([1.4, 1.5, 1.6, 90.0], [1.8, 5.0], "lower", [1.4, 1.6, 1.8], [90.0, 5.0]),
        ([0.9, 0.8, 0.7], [0.1], "higher", [0.9, 0.7], [0.1]),
        ([0.2, 0.1], [0.9], "higher", [0.1, 0.2, 0.9], []),
        ([2.0], [], "lower", [2.0], []),
        ([0.0], [0.0], "lower", [0.0], []),
    ],
)
def test_the_scale_shows_what_matters(mixers, floors, better, inside, outside):
    low, high = window(mixers, floors, better)
    assert all(low < value < high for value in inside)
    assert not any(low <= value <= high for value in outside)


def test_the_front_rises_with_its_price():
    for against in ("state", "step"):
        spots = front(cases.thirty(), against)
        costs, scores = [spot.cost for spot in spots], [spot.quality for spot in spots]
        assert costs == sorted(costs)
        assert scores == sorted(scores, reverse=True)
    assert [spot.row.name for spot in front(cases.full())] == ["Selective", "Decay", "GatedDelta", "Softmax"]


@every
@pytest.mark.parametrize("width", [WIDTHS[0], WIDTHS[-1]])
def test_every_chart_can_be_drawn(case, width):
    comparison = case()
    figures = [frontier(comparison, against=against, width=width) for against in ("state", "step")]
    figures += [
        curves(comparison, across=across, measure=measure, width=width)
        for across in ("seconds", "tokens")
        for measure in ("quality", "loss")
    ]
    if case is cases.nothing_finished:
        assert figures == [None] * 6
        return
    for figure in map(drawn, figures):
        assert figure.layout.width == width
        json.loads(figure.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_floors_are_lines_with_names():
    figure = drawn(frontier(cases.nothing_beats_the_floor()))
    dashed = [trace.name for trace in figure.data if trace.line.dash == "dash"]
    assert set(dashed) == {"trigram", "gzip of the past", "bigram", "unigram"}
    written = {note.text for note in figure.layout.annotations}
    assert {"trigram (floor)", "gzip of the past", "bigram", "unigram"} <= written
    far = drawn(frontier(cases.full()))
    assert any("trigram 1.914" in note.text for note in far.layout.annotations)


def test_what_is_not_drawn_is_told():
    figure = drawn(frontier(cases.partial()))
    assert figure.layout.meta["note"] == "Without a point here: Decay, NeuralMemory, HashedBlocks."
    rows = [*cases.full().rows, replace(cases.full().rows[1], name="Lost", quality=80.0, pareto=False)]
    worse = drawn(frontier(replace(cases.full(), rows=tuple(rows))))
    assert "Lost 80" in worse.layout.meta["note"]


def test_unmeasured_and_infinite_numbers_are_survived():
    row = cases.mixer("Odd", float("nan"), 0, 0, 0.1, 0.1, float("inf"))
    good = replace(cases.mixer("Stateless", 1.5, 0, 0, 0.1, 0.1, 1e4), pareto=True, winner=True)
    comparison = replace(
        cases.full(), rows=(row, good, replace(good, name="Other", state_bytes={65536: 4096}, winner=False))
    )
    assert "Stateless" in printed(table(comparison))
    figure = drawn(frontier(comparison))
    assert "Odd" in figure.layout.meta["note"]


def test_a_page_is_written_where_it_was_asked_for(tmp_path: Path):
    path = write_page(cases.one_row(), tmp_path / "deep" / "report.html")
    assert path == tmp_path / "deep" / "report.html"
    assert f"attime.load(&#39;{(tmp_path / 'deep' / 'winner').as_posix()}&#39;)" in path.read_text(encoding="utf-8")


@every
def test_a_page_is_one_file_for_every_result(case):
    html = written(case)
    assert html.lstrip().startswith("<!doctype html>")
    assert html.count("</script>") == 3
    assert html.count("<h1>") == 1
    head = html[: html.index("<body>")]
    assert not [word for word in ("http://", "https://", "src=", "@import", "url(") if word in head]
    assert ("attime.load" in html) == any(row.winner for row in case().rows)


def test_nothing_in_a_page_runs_that_came_from_a_run():
    html = written(cases.hostile)
    body = html[html.index("<body>") : html.index('<script type="application/json"')]
    assert "<script" not in body
    assert "<img" not in body
    assert "&lt;script&gt;alert(1)" in body
    assert "{{ 7*7 }}" in body
    assert "<title>p&lt;q&gt;" in html


def test_a_result_read_back_gives_the_same_report(tmp_path: Path):
    cases.partial().save(tmp_path / "results.json")
    again = Comparison.load(tmp_path / "results.json")
    assert markdown(again) == markdown(cases.partial())
    assert drawn(frontier(again)) == drawn(frontier(cases.partial()))


def test_a_row_alone_is_enough():
    bare = Row(name="Bare", kind="mixer", quality=0.5)
    comparison = replace(cases.full(), rows=(bare,), settings={}, machine={}, command="", attime="", data="")
    assert "Bare" in printed(table(comparison))
    assert "Bare" in markdown(comparison)
    assert "nothing to draw" in page(comparison)


def luminance(colour: str) -> float:
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_stands_out_from_what_it_stands_on(theme: Theme):
    for behind in (theme.paper, theme.panel, theme.wash):
        for text in (theme.ink, theme.muted, theme.accent, theme.floor, theme.alarm):
            bright, dark = sorted((luminance(text), luminance(behind)), reverse=True)
            assert (bright + 0.05) / (dark + 0.05) >= 4.5, (text, behind)


def test_the_page_recolours_by_exchange_so_no_two_light_colours_are_alike():
    colours = list(vars(LIGHT).values())
    assert len(set(colours)) == len(colours)
