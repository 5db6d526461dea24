"""`attime world`, `attime zoo` and `attime stream` as a user types them: files, numbers, exit codes and one sentence when wrong."""

import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from attime.cli import main
from attime.streams import Audio, Video
from attime.streams.world import World
from attime.zoo import names
from cli_cases import wrong


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main(list(arguments)) == code, capsys.readouterr().err
    return capsys.readouterr().out


def test_a_world_is_a_film_with_sound_and_its_truth(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    options = ["--seconds", "3", "--seed", "3", "--fps", "10", "--size", "64", "--needle", "1"]
    assert "captions" in said(capsys, "world", str(out), *options)
    frames, when = Video(out).read()
    truth = json.loads(out.with_suffix(".json").read_text())
    assert frames.shape == (30, 64, 64, 3)
    assert np.allclose(when, np.arange(30) / 10)
    made = next(World(seed=3, seconds=3, needle_s=1.0).frames(fps=10, size=(64, 64)))[0]
    assert np.abs(frames.astype(float) - made).mean() < 6, "the film shows the world of this seed"
    assert abs(Audio(out).duration_s - 3) < 0.1
    assert [each["what"] for each in truth["shots"][0]["events"]].count("flash") == 1
    assert all(each["answer"] for shot in truth["shots"] for each in shot["questions"])
    silent = tmp_path / "silent.mp4"
    said(capsys, "world", str(silent), "--silent", "--json", *options)
    assert not [track for track in Video(silent).streams if track.kind == "audio"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--size", "33"], "even number"),
        (["--seconds", "0"], "above 0"),
        (["--fps", "0"], "fps"),
        (["--things", "0", "2"], "fewest"),
        (["--events", "9", "99"], "do not fit"),
    ],
)
def test_a_world_that_cannot_be_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, options: list[str], words: str
) -> None:
    assert words in wrong(capsys, "world", str(tmp_path / "out.mp4"), *options)
    assert not list(tmp_path.iterdir()), "nothing half done is left"


def test_a_film_needs_a_kind_of_file_and_a_place(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "mp4" in wrong(capsys, "world", str(tmp_path / "out.docx"), "--seconds", "1", "--size", "32")
    wrong(capsys, "world", str(tmp_path / "no" / "out.mp4"), "--seconds", "1", "--size", "32")


def test_the_zoo_lists_shows_and_checks(capsys: pytest.CaptureFixture[str]) -> None:
    cards = json.loads(said(capsys, "zoo", "--json"))["zoo"]
    assert [card["name"] for card in cards] == list(names())
    shipped = [card for card in cards if "class" in card]
    assert len(shipped) >= 4
    assert all(card["met"] and card["numbers"] and card["parameters"] > 1000 for card in shipped)
    assert "LlamaForCausalLM" in said(capsys, "zoo", "show", "bytes")
    checked = json.loads(said(capsys, "zoo", "check", "listener", "--json"))
    assert checked["unmet"] == []
    assert checked["seed"] not in {card["measured_seed"] for card in shipped}, "a fresh seed"


def test_a_recipe_makes_weights_that_load(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    card = json.loads(said(capsys, "zoo", "train", "recall", "--steps", "2", "--out", str(tmp_path), "--json", code=1))
    assert card["steps"] == 2
    assert not card["met"], "two steps teach nobody to remember"
    assert "recall" in said(capsys, "zoo", "show", "recall", "--out", str(tmp_path))


def test_the_zoo_says_what_it_does_not_have(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "the zoo has no 'lion'" in wrong(capsys, "zoo", "show", "lion")
    assert "needs a name" in wrong(capsys, "zoo", "check")
    assert "attime zoo train bytes --out" in wrong(capsys, "zoo", "show", "bytes", "--out", str(tmp_path))


def test_a_stream_is_read_in_bounded_memory(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "endless.py"
    text.write_text("def total(values):\n    return sum(values)\n" * 60)
    found = {
        memory: json.loads(said(capsys, "stream", str(text), "--memory", memory, "--chunk", "200", "--json"))
        for memory in ("sinks=4,window=124", "SinkWindow(sinks=4, window=124, every=31) + Contiguous()", "none")
    }
    short, same, whole = found.values()
    assert short["tokens"] == whole["tokens"] == len(text.read_text())
    assert short["peak_bytes"] < 0.2 * whole["peak_bytes"]
    assert short["nats_per_token"] == same["nats_per_token"]
    assert short["perplexity"] < 4, "it repeats itself"
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text.read_bytes()[:500])))
    assert "500 tokens" in said(capsys, "stream", "-")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.txt"], "can be read"),
        (["pyproject.toml", "--memory", "sinks=4,width=3"], "got width"),
        (["pyproject.toml", "--memory", "Elephant()"], "has no Elephant"),
        (["pyproject.toml", "--memory", "SinkWindow(4)"], "name=value"),
        (["pyproject.toml", "--memory", "SinkWindow(windows=4)"], "windows"),
        (["pyproject.toml", "--memory", "SinkWindow(window="], "is no memory"),
        (["pyproject.toml", "--model", "no/such/model/here"], "--model needs"),
    ],
)
def test_a_stream_that_cannot_be_read_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert words in wrong(capsys, "stream", *arguments)
