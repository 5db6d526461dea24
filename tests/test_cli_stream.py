"""`attime stream` as a user types it: what is in sight, bits, disk, signals, closed streams, mistakes."""

import errno
import io
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from attime.cli import main
from attime.cli.asked import asked_memory
from attime.cli.reading import in_sight
from attime.memory.named import find_policy
from attime.memory.quantize import Quantize
from attime.streams.text import standard_library
from cli_cases import TEXT, told, wrong


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "held_out.py"
    path.write_bytes(standard_library().test[:1200].tobytes())
    return path


def test_without_options_no_more_is_in_sight_than_the_model_was_made_for(
    capsys: pytest.CaptureFixture[str], source: Path, folder: Path, tmp_path: Path
) -> None:
    own = told(capsys, "stream", str(source))
    assert "SinkWindow(sinks=4, window=252," in own["memory"], "the zoo's model was trained at 256 tokens"
    parked = told(capsys, "stream", str(source), "--disk", str(tmp_path / "disk"))
    assert "sinks=4, window=128, block=31, blocks=4" in parked["memory"], "4 + 128 + 124 in sight"
    assert parked["nats_per_token"] < own["nats_per_token"] + 0.05
    assert "window=1020" in told(capsys, "stream", str(source), "--model", str(folder))["memory"]
    assert main(["stream", str(source), "--memory", "sinks=4,window=1020", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["nats_per_token"] > own["nats_per_token"] + 0.05
    assert said.err.count("\n") == 1
    assert "made for 256 tokens in sight, and has 1,024 with sinks=4,window=1020" in said.err
    assert main(["stream", str(source), "--memory", "none"]) == 0
    assert "has more with none" in capsys.readouterr().err
    assert main(["stream", str(source)]) == 0
    assert not capsys.readouterr().err


@pytest.mark.parametrize("memory", ["sinks=4,window=8", "sinks=0,window=9", "sinks=4,window=61", "sinks=4,window=1020"])
def test_a_disk_puts_no_more_in_sight(memory: str, tmp_path: Path) -> None:
    given = find_policy(memory)
    assert in_sight(asked_memory(given, folder=str(tmp_path))) == in_sight(given)


@pytest.mark.parametrize("window", [28, 60, 124, 252])
def test_bits_save_in_small_windows_too(capsys: pytest.CaptureFixture[str], text: Path, window: int) -> None:
    text.write_text((TEXT * 8)[: 200 + 2 * window])
    memory = ["--memory", f"sinks=4,window={window}", "--chunk", "128"]
    exact = told(capsys, "stream", str(text), *memory)
    coded = told(capsys, "stream", str(text), *memory, "--quantize", "4")
    assert coded["peak_bytes"] < 0.7 * exact["peak_bytes"]
    assert abs(coded["nats_per_token"] - exact["nats_per_token"]) < 0.05


def test_bits_and_disk(capsys: pytest.CaptureFixture[str], text: Path, tmp_path: Path) -> None:
    exact = told(capsys, "stream", str(text), "--memory", "sinks=4,window=508")
    coded = told(capsys, "stream", str(text), "--memory", "sinks=4,window=508", "--quantize", "4")
    assert coded["peak_bytes"] < exact["peak_bytes"]
    assert abs(coded["nats_per_token"] - exact["nats_per_token"]) < 0.05
    disk, small = tmp_path / "parked", "sinks=4,window=60,every=15"
    alone = told(capsys, "stream", str(text), "--memory", small)
    assert main(["stream", str(text), "--memory", small, "--disk", str(disk)]) == 0
    assert "on disk" in capsys.readouterr().out
    parked = told(capsys, "stream", str(text), "--memory", small, "--disk", str(disk))
    assert alone["disk_bytes"] == 0
    assert parked["disk_bytes"] > 100_000
    assert parked["peak_bytes"] < exact["peak_bytes"]
    assert parked["nats_per_token"] < alone["nats_per_token"], "the text repeats what has left the window"
    assert list(disk.iterdir()) == [], "nothing is left behind"


@pytest.mark.parametrize(
    ("memory", "sinks"), [("sinks=16,window=60", 16), ("sinks=0,window=60", 0), ("none", 4), ("Contiguous()", 4)]
)
def test_sinks_stay_exact_beside_bits(memory: str, sinks: int) -> None:
    made = asked_memory(find_policy(memory), bits=4)
    assert [each.sinks for each in made.policies if isinstance(each, Quantize)] == [sinks]


def test_a_full_disk_ends_with_what_was_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: Path, tmp_path: Path
) -> None:
    real, left = os.pwrite, iter(range(12))

    def pwrite(file: int, data: Any, at: int) -> int:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(file, data, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    small = ["--memory", "sinks=4,window=60,every=15", "--disk", str(tmp_path / "disk"), "--chunk", "32"]
    for json_too in ([], ["--json"]):
        left = iter(range(12))
        assert main(["stream", str(text), *small, *json_too]) == 2
        said = capsys.readouterr()
        assert "takes no more (No space left on device)" in said.err
        assert "nothing is lost" not in said.err, "the stream has ended"
        assert said.err.count("\n") == 1
        assert json.loads(said.out)["tokens"] > 60 if json_too else "nats each" in said.out
        assert list((tmp_path / "disk").iterdir()) == []


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_signals_end_cleanly(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    number, disk, read = signal.Signals[name], tmp_path / "disk", iter(range(9))

    class Endless(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            if next(read, None) is None:
                assert signal.getsignal(number) is not signal.SIG_DFL, "it would end the process"
                os.kill(os.getpid(), number)
            return TEXT.encode()

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Endless()))
    small = ["--memory", "sinks=4,window=60", "--disk", str(disk), "--json"]
    assert main(["stream", "-", *small]) == 128 + number
    said = json.loads(capsys.readouterr().out)
    assert said["tokens"] == 9 * len(TEXT)
    assert said["disk_bytes"]
    assert list(disk.iterdir()) == []
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_signal_that_was_ignored_stays_so(capsys: pytest.CaptureFixture[str], text: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        told(capsys, "stream", str(text))
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_streams_that_are_closed_or_full(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: Path, tmp_path: Path
) -> None:
    class Full(io.TextIOBase):
        def write(self, text: str, /) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", None)
        assert "it is closed: give a file" in wrong(capsys, "stream", "-")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Full())
        disk = ["--memory", "sinks=4,window=60", "--disk", str(tmp_path)]
        assert "could not be: No space left on device" in wrong(capsys, "stream", str(text), *disk)
        assert [each for each in tmp_path.iterdir() if each.is_dir()] == []
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        assert main(["stream", str(text)]) == 0
        sys.stdout.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["stream", "pyproject.toml", "--memory", "SinkWindow(window=40.5)"], "needs window"),
        (["stream", "pyproject.toml", "--disk", ""], "name of a folder"),
        (["stream", "pyproject.toml", "--memory", "Evict(score=KeyNorm())", "--disk", "PARKED"], "parks what leaves"),
        (["stream", "pyproject.toml", "--disk", "pyproject.toml"], "can be written to"),
        (["stream", "pyproject.toml", "--chunk", "0"], "1 byte or more"),
        (["stream", "pyproject.toml", "--chunk", "99999999999999999999"], "at most 65536"),
        (["stream", "pyproject.toml", "--memory", "sinks=4,window=7", "--disk", "PARKED"], "a window of 8 or more"),
        (["zoo", "check", "bytes", "--device", "banana"], "--device needs one that torch has here"),
        (["zoo", "train", "bytes", "--device", "meta"], "--device needs one that torch has here"),
    ],
)
def test_mistakes_are_told_in_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], words: str
) -> None:
    parked = str(tmp_path / "parked")
    assert words in wrong(capsys, *(parked if each == "PARKED" else each for each in arguments))
