"""`attime compare` as a user runs it: real files in, a table, an answer, a page and a model out."""

import io
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from attime import load
from attime.cli import main
from attime.models.recipe import Recipe
from attime.tasks import Recall, workers
from attime.tasks.result import Comparison
from attime.tasks.trial import Budget, Trial, run_trial

SMALL = ["--dim", "16", "--heads", "2", "--layers", "2", "--block", "24", "--batch", "4"]


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("series") / "load.csv"
    t = np.arange(600)
    rows = [f"{200 + 40 * math.sin(2 * math.pi * i / 24):.3f},{5 + (i % 7):.1f}" for i in t]
    days = [f"2024-01-{1 + i // 24:02d} {i % 24:02d}:00" if i < 24 * 31 else "" for i in t]
    path.write_text("date,load,wind\n" + "\n".join(f"{day},{row}" for day, row in zip(days, rows, strict=True)))
    return path


def compare(*arguments: str | Path | int) -> int:
    return main(["compare", *map(str, arguments), *SMALL])


def test_series_from_file_to_forecast(series, tmp_path, capsys) -> None:
    options = (
        "--series",
        series,
        "--lookback",
        24,
        "--horizon",
        6,
        "--steps",
        6,
        "--out",
        tmp_path,
        "--mixers",
        "Decay",
        "GatedDelta",
    )
    assert compare(*options) == 0
    said = capsys.readouterr().out
    result = Comparison.load(tmp_path / "results.json")
    names = {row.name for row in result.rows}
    assert {"Decay", "GatedDelta", "last value"} <= names, names
    assert result.answer.split(":")[0] in " ".join(said.split())
    assert "report.html" in said
    for row in result.rows:
        assert row.quality is not None
        assert math.isfinite(row.quality)
        assert row.status == "done"
        if row.kind == "mixer":
            assert row.parameters
            assert row.train_tokens_per_s
            assert row.peak_bytes
            assert row.step_ms
            assert set(row.state_bytes) == {1024, 65536}
    sizes = [row.parameters for row in result.rows if row.parameters]
    assert max(sizes) <= 1.05 * min(sizes)
    assert any(row.pareto for row in result.rows)
    page = (tmp_path / "report.html").read_text()
    assert result.protocol in page
    forecast = load(tmp_path / "winner").forecast(np.full((24, 2), (200.0, 8.0)), 9)
    assert forecast.shape == (9, 2)
    assert 100 < forecast[0, 0] < 300

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "trials").glob("*.row")}
    assert compare(*options, "Flow") == 0  # the same command with one mixer more trains that one only
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "trials").glob("*.row")}
    assert len(after) == len(before) + 1
    assert before.items() <= after.items()


def test_limits_filter_the_answer(series, tmp_path, capsys) -> None:
    options = (
        "--series",
        series,
        "--lookback",
        24,
        "--horizon",
        6,
        "--steps",
        2,
        "--out",
        tmp_path,
        "--mixers",
        "Decay",
        "Softmax",
    )
    assert compare(*options, "--max-state-bytes", 100_000) == 0
    result = Comparison.load(tmp_path / "results.json")
    by_name = {row.name: row for row in result.rows}
    assert by_name["Decay"].within_limits
    assert not by_name["Softmax"].within_limits
    assert by_name["Decay"].winner
    assert compare(*options, "--max-state-bytes", 1) == 0
    assert "No mixer stays within the limits" in " ".join(capsys.readouterr().out.split())


def test_events_from_file_to_recommendation(tmp_path) -> None:
    path = tmp_path / "clicks.csv"
    rows = [f"u{user},i{(user + step) % 9},{step}" for user in range(40) for step in range(8)]
    path.write_text("user,item,time\n" + "\n".join(rows))
    assert compare("--events", path, "--steps", 3, "--out", tmp_path / "out", "--mixers", "Decay", "--json") == 0
    best = load(tmp_path / "out" / "winner").recommend(["i1", "i2"], k=3)
    assert len(best) == 3
    assert set(best) <= {f"i{n}" for n in range(9)} - {"i1", "i2"}


def test_text_from_folder_to_generation(tmp_path, capsys) -> None:
    for name in "abcdefgh":
        (tmp_path / f"{name}.txt").write_text(f"the {name} sat on the mat and looked at the {name}.\n" * 60)
    assert (
        compare(
            "--text", tmp_path, "--length", 32, "--steps", 3, "--out", tmp_path / "out", "--mixers", "Decay", "--json"
        )
        == 0
    )
    printed = json.loads(capsys.readouterr().out)
    assert printed["metric"] == "nats"
    assert len(load(tmp_path / "out" / "winner").generate(b"the ", 5)) == 5


def test_own_mixer_and_alternation(tmp_path, monkeypatch) -> None:
    (tmp_path / "mine.py").write_text("from attime.attention.linear import Decay as Mine\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    mixers = ("--mixers", "mine:Mine(heads=4)", "Decay+SlidingWindow(window=8)")
    assert compare("--task", "recall", "--length", 32, "--steps", 2, "--out", tmp_path / "out", *mixers) == 0
    assert {row.name for row in Comparison.load(tmp_path / "out" / "results.json").rows} >= {mixers[1], mixers[2]}


def test_interrupted_and_resumed_is_as_if_never_interrupted(tmp_path) -> None:
    def command(out: str) -> list[str]:
        words = ["compare", "--task", "recall", "--length", "32", "--steps", "150", "--mixers", "Decay", "--jobs", "1"]
        return [sys.executable, "-m", "attime", *words, "--out", str(tmp_path / out), *SMALL, "--batch", "64"]

    running = subprocess.Popen(command("a"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "a" / "trials").glob("Decay*.progress")):
        assert time.monotonic() < deadline, "the trial never started"
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    said = running.communicate(timeout=120)[0].decode()
    assert running.returncode == 130, said
    assert "Traceback" not in said, said
    partial = Comparison.load(tmp_path / "a" / "results.json")
    assert partial.partial
    assert [row.status for row in partial.rows if row.kind == "mixer"] == ["partial"]
    assert list((tmp_path / "a" / "trials").glob("Decay*.checkpoint"))
    for out in ("a", "b"):
        subprocess.run(command(out), check=True, capture_output=True, timeout=300)
    resumed, whole = (Comparison.load(tmp_path / out / "results.json") for out in ("a", "b"))
    assert not resumed.partial
    ours, theirs = (next(row for row in each.rows if row.kind == "mixer") for each in (resumed, whole))
    assert ours.quality == pytest.approx(theirs.quality, abs=1e-6)
    assert ours.curve[-1].step == theirs.curve[-1].step == 150


def test_stopped_while_warming_up_it_goes_on_at_the_full_rate(tmp_path) -> None:
    recipe = Recipe(mixer="Decay", dim=16, heads=2, vocabulary=64)
    folders = [tmp_path / name for name in ("stopped", "whole")]
    stopped, whole = (
        Trial(
            name="Decay",
            key="decay",
            recipe=recipe,
            task=Recall(length=32),
            budget=Budget(steps=30, batch=4),
            folder=each,
        )
        for each in folders
    )
    for folder in folders:
        folder.mkdir()
    (folders[0] / "stop").touch()
    assert run_trial(stopped).status == "partial"
    (folders[0] / "stop").unlink()
    rows = run_trial(stopped), run_trial(whole)
    assert [row.status for row in rows] == ["done", "done"]
    one, other = (torch.load(trial.file("weights"), weights_only=True) for trial in (stopped, whole))
    for name, weight in one.items():
        torch.testing.assert_close(weight, other[name], rtol=1e-5, atol=1e-6)


def test_ray_is_an_extra_and_its_tasks_bring_their_weights(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert compare("--task", "recall", "--steps", 1, "--out", tmp_path, "--mixers", "Decay", "--ray", "auto") == 2
    assert "pip install 'attime[ray]'" in capsys.readouterr().err
    recipe = Recipe(mixer="Decay", dim=16, heads=2, vocabulary=64)
    budget = Budget(steps=2, batch=2)
    trial = Trial(name="Decay", key="decay", recipe=recipe, task=Recall(length=32), budget=budget, folder=tmp_path)
    row, weights = workers._away(trial)
    assert row.status == "done"
    assert set(torch.load(io.BytesIO(weights), weights_only=True)) == set(recipe.build().state_dict())


def _csv(folder: Path, text: str) -> Path:
    path = folder / "data.csv"
    path.write_text(text)
    return path


ROWS = "\n".join(f"{i},{i * 2}" for i in range(300))


@pytest.mark.parametrize(
    ("arguments", "text", "words"),
    [
        (["--series", "nowhere.csv"], None, "nowhere.csv"),
        (["--text", "nowhere"], None, "nowhere"),
        (["--series", "FILE", "--target", "c"], "a,b\n" + ROWS, "no column 'c'"),
        (["--series", "FILE"], "a,b\n" + ROWS + "\nsunny,3", "sunny"),
        (["--series", "FILE"], "", "empty"),
        (["--series", "FILE"], "a,b\n1,2\n3,4", "rows"),
        (["--series", "FILE"], "a,b\n" + ROWS.replace("\n50,100", "\n50,"), "gaps"),
        (
            ["--series", "FILE", "--lookback", "9", "--horizon", "3", "--mixers", "Magic"],
            "a,b\n" + ROWS,
            "there is no mixer 'Magic'",
        ),
        (["--series", "FILE", "--lookback", "1000"], "a,b\n" + ROWS, "shorter look-back"),
        (["--events", "FILE"], "a,b\n" + ROWS, "--columns"),
        (["--data", "etth9"], None, "etth9"),
        (["--task", "chess"], None, "recall or needle"),
        (["--task", "recall", "--steps", "-3"], None, "steps > 0"),
        (["--task", "recall", "--horizon", "3"], None, "--horizon is about a series"),
        (["--task", "recall", "--mixers", "Decay", "Softmax", "--block", "1"], None, "raise --block"),
    ],
)
def test_bad_input_gets_one_sentence(arguments, text, words, tmp_path, capsys) -> None:
    path = _csv(tmp_path, text) if text is not None else None
    arguments = [str(path) if each == "FILE" else each for each in arguments]
    assert main(["compare", *arguments, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert words in said, said
    assert said.startswith("attime: ")
    assert said.count("\n") == 1, said
    assert "Traceback" not in said
