"""`attime compare --memory` and policies as a user types them: the table, the page, mistakes."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from attime.cli import main, memories, places
from attime.cli.memories import DEFAULT
from attime.errors import AttimeError
from attime.memory.contract import Policy
from attime.memory.named import find_policy, memory_parts
from attime.tasks.result import Comparison
from cli_cases import told, wrong


def test_memories_side_by_side(capsys: pytest.CaptureFixture[str], text: Path, folder: Path, tmp_path: Path) -> None:
    out, policies = tmp_path / "out", ["none", "sinks=4,window=28,every=7", "Evict(score=Elephant())"]
    assert "has no Elephant" in wrong(capsys, "compare", "--memory", *policies, "--out", str(out))
    policies[2] = "Evict(score=KeyNorm(), budget=PerHead(heads=((9, 0),), others=28), recent=8, every=8)"
    found = told(capsys, "compare", "--memory", *policies, str(text), "--model", str(folder), "--out", str(out))
    rows = {row["name"]: row for row in found["rows"]}
    assert set(rows) == set(policies)
    whole, small, failed = (rows[name] for name in policies)
    assert max(small["state_bytes"].values()) < 0.5 * max(whole["state_bytes"].values())
    assert failed["status"] == "failed"
    assert "head 0 of layer 9" in failed["error"]
    assert sum(row["winner"] for row in rows.values()) == 1
    assert whole["curve"][-1]["quality"] == whole["quality"]
    assert Comparison.load(out / "memories.json").kind == "memory"
    page = (out / "memories.html").read_text()
    for words in ("Which memory for", "Every memory", "find_policy(", "Along the text", "head 0 of layer 9"):
        assert words in page
    assert "Every mixer" not in page


def test_the_same_at_its_defaults_in_words(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = str(tmp_path)
    assert main(["compare", "--memory", "none", "sinks=4,window=60", "--tokens", "400", "--out", out]) == 0
    said = capsys.readouterr().out
    assert "perplexity" in said
    assert "Use" in said or "Nothing is better" in said
    assert "needle recall is left out" in said or "recall" in (tmp_path / "memories.json").read_text()
    assert "made for 256 tokens in sight, and has more with none: fewer may serve it better." in " ".join(said.split())
    assert all(find_policy(name) is not None for name in DEFAULT)


def test_long_names_leave_room_for_the_numbers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    policies = ["none", "Evict(score=ObservedWindow(window=32), budget=128, recent=32, every=32) + Contiguous()"]
    assert main(["compare", "--memory", *policies, str(text), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("perplexity", "Held", "Tokens", "recall"))
    assert max(map(len, said.split("page    ")[0].splitlines())) <= 80


def test_results_that_cannot_be_written_are_told_before_anything_is_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: Path, tmp_path: Path
) -> None:
    (tmp_path / "taken" / "memories.json").mkdir(parents=True)
    reads = ["compare", "--memory", "none", str(text), "--out"]
    with monkeypatch.context() as patch:
        patch.setattr(memories, "_row", lambda *_: pytest.fail("it was read all the same"))
        for out in (text, text / "inside", tmp_path / "taken"):
            assert "--out" in wrong(capsys, *reads, str(out))
        assert "two or more; got -5" in wrong(capsys, *reads, str(tmp_path / "out"), "--tokens", "-5")
        assert not (tmp_path / "out").exists()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(places, "write_page", full)
    assert main([*reads, str(tmp_path / "out"), "--tokens", "60"]) == 2
    said = capsys.readouterr()
    assert "perplexity" in said.out, "what was measured is told all the same"
    assert "No space left" in said.err


def test_a_policy_that_breaks_is_one_failed_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: Path, folder: Path, tmp_path: Path
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no such shape")

    monkeypatch.setattr(memory_parts()["KeyNorm"], "rate", broken)
    policies = ["none", "Evict(score=KeyNorm(), budget=28, recent=8, every=8)"]
    arguments = ["compare", "--memory", *policies, str(text), "--model", str(folder), "--out", str(tmp_path)]
    rows = {row["name"]: row for row in told(capsys, *arguments)["rows"]}
    assert rows["none"]["status"] == "done"
    assert "no such shape" in rows[policies[1]]["error"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Evict(score='x', budget=200)", "needs score to be one of Expected, KeyNorm"),
        ("Evict(score=SinkWindow(), budget=200)", "needs score to be one of"),
        ("Evict(score=KeyNorm(), budget='5')", "needs budget to be a whole number or one of Adaptive"),
        ("Evict(score=KeyNorm(), budget=200.5)", "needs budget"),
        ("Evict(score=KeyNorm(), budget=KeyNorm())", "needs budget"),
        ("Evict(score=KeyNorm(), action=KeyNorm())", "needs action to be one of Compensate"),
        ("Evict(score=KeyNorm(), budget=PerHead(heads=(0, 1), others=200))", r"needs heads to be a tuple \(a tuple"),
        ("Evict(score=KeyNorm(), budget=PerLayer(entries=(200, 'x')))", "needs entries"),
        ("SinkWindow(window=1e3)", "needs window to be a whole number; got 1000.0"),
        ("Retrieve(where=3)", "needs where to be one of InMemory, OnDisk; got 3"),
        ("Retrieve(by='foo')", "needs by to be 'token' or 'question'; got 'foo'"),
        ("Convolution(mixing=1)", "needs Mixing made in Python"),
        ("Score()", "is a kind of part"),
        ("Evict()", "needs score: one of"),
        ("SinkWindow(width=3)", "has no option width; it has sinks, window, every"),
        ("SinkWindow(**{'sinks': 3})", "must read name=value"),
        ("SinkWindow(sinks=1, sinks=2)", "given sinks twice"),
        ("sinks=4,window=40,sinks=9", "each option once"),
        ("{[]: 1}", "neither a value nor a part"),
    ],
)
def test_options_of_the_wrong_kind_are_told(text: str, words: str) -> None:
    with pytest.raises(AttimeError, match=words) as error:
        find_policy(text)
    assert "\n" not in str(error.value)


def test_options_of_the_right_kind_are_taken() -> None:
    policies = [part for part in memory_parts().values() if issubclass(part, Policy) and part.__name__ != "Convolution"]
    for example in (each for part in policies for each in part.examples()):
        assert find_policy(repr(example)).policies == (example,)
    with pytest.raises(AttimeError, match="has no Elephant") as error:
        find_policy("Elephant")
    assert all(part.__name__ in str(error.value) for part in policies)
    assert "Convolution" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "--memory", "none", "nofile.txt"], "no text file 'nofile.txt' and no such policy"),
        (["compare", "--memory", "none", "tests"], "no text file 'tests' and no such policy"),
        (["compare", "--memory", "none", "Evict(score='x',budget=200)"], "needs score"),
        (["compare", "--memory", "none", "--tokens", "1"], "two or more"),
        (["compare", "--memory", "none", "--model", "bytes", "missing.txt"], "can be read"),
        (["compare", "--memory", "none", "--model", "no/such/model"], "--model needs"),
        (["compare", "--model", "bytes"], "go with --memory"),
    ],
)
def test_mistakes_are_told_in_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert words in wrong(capsys, *arguments)
