"""Every command as a user types it: what it prints, its exit code, and one sentence when something is wrong."""

import json
import subprocess
import sys

import pytest

from attime.cli import main
from attime.laws.cases import ROOMS


def said(capsys, *arguments: str, code: int = 0) -> str:
    assert main(list(arguments)) == code
    return capsys.readouterr().out


def test_the_installed_command_answers() -> None:
    done = subprocess.run([sys.executable, "-m", "attime", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("attime ")


def test_parts_lists_every_room(capsys) -> None:
    parts = json.loads(said(capsys, "parts", "--json"))["parts"]
    assert {part["room"] for part in parts} == set(ROOMS)
    names = {part["part"] for part in parts}
    assert {"attention.linear.Decay", "attention.softmax.Softmax", "tasks.Recall"} <= names
    assert all(part["what"] for part in parts)
    assert "SlidingWindow" in said(capsys, "parts", "attention")


def test_show_tells_equation_source_traits_and_laws(capsys) -> None:
    text = said(capsys, "show", "GatedDelta")
    for word in ("Source:", "arXiv", "traits", "causal", "bounded", "any_chunking_agrees", "options"):
        assert word in text, text
    assert "Claim:" in said(capsys, "show", "aaren")


def test_draw_shows_a_window(capsys) -> None:
    rows = said(capsys, "draw", "SlidingWindow(window=3, rope=False)", "--length", "8").splitlines()[1:]
    seen = [{place // 2 for place, mark in enumerate(row) if mark != " "} for row in rows]
    assert seen == [set(range(max(0, t - 2), t + 1)) for t in range(8)]


def test_cite_gives_bibtex(capsys) -> None:
    assert "eprint = {2405.17381}" in said(capsys, "cite", "Decay")
    text = said(capsys, "cite", "aaren")
    assert text.startswith("@misc{aaren,")
    assert text.count("{") == text.count("}")


def test_data_lists_the_public_sets(capsys) -> None:
    sets = {row["name"]: row for row in json.loads(said(capsys, "data", "--json"))["data"]}
    assert {"ett-h1", "jsb", "ml-100k", "ml-1m", "stackoverflow", "eth-ucy", "tinyshakespeare"} <= set(sets)
    assert sets["ett-h1"]["licence"]
    assert "tinyshakespeare" in said(capsys, "data")


def test_bench_prints_ratios_and_costs(capsys) -> None:
    found = json.loads(said(capsys, "bench", "Decay", "--dim", "32", "--lengths", "64", "128", "--json"))
    assert {(row["mixer"], row["tokens"]) for row in found["rows"]} == {
        (m, n) for m in ("Softmax", "Decay") for n in (64, 128)
    }
    assert all(row["ms"] > 0 and row["state_bytes"] > 0 for row in found["rows"])
    assert "Softmax" in said(capsys, "bench", "Decay", "--dim", "32", "--lengths", "64", "--train")


def test_check_passes_a_sound_mixer_and_catches_a_broken_one(capsys, tmp_path, monkeypatch) -> None:
    (tmp_path / "broken_mixer.py").write_text(
        "from attime.attention.contract import Mixer\n"
        "from attime.attention.linear import Decay\n"
        "class Broken(Mixer):\n"
        "    traits = Decay.traits\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.dim, self.inner = 8, Decay(8)\n"
        "    def begin(self, x):\n"
        "        return self.inner.begin(x)\n"
        "    def mix(self, x, state, valid):\n"
        "        y, state = self.inner.mix(x, state, valid)\n"
        "        return y + x.flip(1).cumsum(1).flip(1), state\n"
        "    def reference(self, x):\n"
        "        return self.inner.reference(x)\n"
        "    def cost(self, length, dtype=None):\n"
        "        return self.inner.cost(length)\n"
        "    @classmethod\n"
        "    def examples(cls):\n"
        "        return [cls()]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = json.loads(said(capsys, "check", "broken_mixer:Broken", "--json", code=1))
    broken = {row["law"] for row in found["laws"] if not row["holds"]}
    assert {"past_ignores_future", "fast_is_reference"} <= broken
    assert "length_one_works" not in broken
    assert "hold." in said(capsys, "check", "Decay", "--law", "length_one_works")


def test_run_prints_a_verdict_and_takes_the_papers_options(capsys) -> None:
    verdict = json.loads(said(capsys, "run", "fusemax", "--json"))
    assert verdict["status"] == "holds"
    assert verdict["numbers"]
    assert json.loads(said(capsys, "run", "fusemax", "--seed", "3", "--json"))["status"] == "holds"
    assert "holds" in said(capsys, "run", "fusemax")
    assert "--seed" in said(capsys, "run", "fusemax", "--help-options")


def test_papers_computes_its_statuses(capsys, tmp_path, monkeypatch) -> None:
    from attime.cli import papers

    monkeypatch.setenv("ATTIME_CACHE", str(tmp_path))
    papers._memory.cache_clear()
    listed = json.loads(said(capsys, "papers", "--known", "--json"))
    assert len(listed["papers"]) == 274
    assert listed["counts"]["not yet"] > 0
    assert "holds" not in listed["counts"]
    rows = json.loads(said(capsys, "papers", "fusemax", "--json"))["papers"]  # runs what is not known
    assert [(row["number"], row["status"]) for row in rows] == [(205, "holds")]
    rows = json.loads(said(capsys, "papers", "fusemax", "--known", "--json"))["papers"]
    assert rows[0]["status"] == "holds"
    papers._memory.cache_clear()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "Nothing"], "there is no part or paper 'Nothing'"),
        (["run", "nothing"], "there is no paper 'nothing'"),
        (["run", "stair"], "not built yet"),
        (["parts", "cellar"], "there is no room 'cellar'"),
        (["draw", "Decay", "--length", "1"], "from 2 to 200"),
        (["check", "nowhere:Mixer"], "cannot find Mixer in nowhere"),
        (["check", "torch:Tensor"], "is not a part"),
        (["check", "Decay", "--law", "gravity"], "there is no law 'gravity'"),
        (["data", "nothing"], "there is no public data set 'nothing'"),
        (["bench", "Nothing"], "there is no mixer 'Nothing'"),
        (["cite", "Nothing"], "there is no part or paper"),
    ],
)
def test_mistakes_get_one_sentence(arguments, words, capsys) -> None:
    assert main(arguments) == 2
    out = capsys.readouterr()
    assert words in out.err, out.err
    assert out.err.startswith("attime: ")
    assert out.err.count("\n") == 1
    assert not out.out
