"""`attime stream`: an endless text through a language model in bounded memory, with a live line and a summary."""

import argparse
import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from torch import Tensor

from attime.cli.asked import asked_memory, disk_folder
from attime.cli.reading import (
    Encode,
    beyond,
    check_useful,
    in_sight,
    in_words,
    made_for,
    need_hub,
    own_memory,
    reading_model,
)
from attime.errors import AttimeError
from attime.memory.chained import Chain
from attime.memory.named import find_policy
from attime.report.units import memory

__all__ = ["stream"]

MOST = 1 << 16  # bytes of a chunk
ENDS = ("SIGTERM", "SIGHUP")


def stream(options: argparse.Namespace) -> int:
    """Read the text chunk by chunk; print where the stream stands, and at the end what it came to."""
    need_hub("attime stream")
    if not 1 <= options.chunk <= MOST:
        raise AttimeError(f"stream needs --chunk of 1 byte or more, and at most {MOST}; got {options.chunk}.")
    given = None if options.memory is None else find_policy(options.memory)
    with ExitStack() as open_now:
        open_now.enter_context(_ended_by_signals())
        folder = open_now.enter_context(disk_folder(options.disk)) if options.disk is not None else None
        file = open_now.enter_context(_opened(options.file))
        model, encode = reading_model(options.model)
        if given is not None or folder is not None:
            check_useful(model, given)
        policy = asked_memory(own_memory(model) if given is None else given, folder=folder, bits=options.quantize)
        return _read(options, model, policy, _chunks(file, encode, options.chunk), folder)


def _read(options: argparse.Namespace, model: Any, policy: Chain, chunks: Iterator[Tensor], folder: str | None) -> int:
    from attime.hub import attach
    from attime.hub.stream import stream as run

    last, peak, parked, code, stopped = None, 0, 0, 0, None
    seen, most = in_sight(policy), made_for(model)
    most = None if most is not None and seen is not None and seen <= most else most
    live = not options.json and sys.stdout.isatty()
    with attach(model, policy) as attached:
        try:
            for last in run(attached, chunks):
                peak, parked = max(peak, last.nbytes), _parked(folder)
                if most is not None and last.tokens > most:
                    told = beyond([options.memory or in_words(policy)], seen, most)
                    print(("\n" if live else "") + f"attime: {told}", file=sys.stderr)
                    most = None
                if live:
                    print(f"\r{_line(last, parked)}", end="", flush=True)
                if last.halted is not None:
                    full = isinstance(last.halted.__cause__, OSError)
                    stopped = _full(options.disk, last) if full else last.halted
                    break
        except KeyboardInterrupt:
            code = 130
        except SystemExit as error:
            code = int(str(error.code))
        except AttimeError as error:
            stopped = error
    if last is None or last.tokens < 2:
        raise stopped or AttimeError(f"stream needs a text of two tokens or more; {options.file} has less.")
    print(_summary(options, policy, last, peak, parked))
    if stopped is not None:
        raise stopped
    return code


def _full(disk: str | None, last: Any) -> AttimeError:
    """The end where no more can be parked: what stays in the window instead would grow without one."""
    why = last.halted.__cause__.strerror
    where = "the disk" if disk is None else f"--disk {disk}"
    return AttimeError(f"{where} takes no more ({why}), and {last.tokens:,} tokens were read: give it more room.")


def _summary(options: argparse.Namespace, policy: Chain, last: Any, peak: int, parked: int) -> str:
    """What the text came to, as far as it was read."""
    if options.json:
        told = {
            "tokens": last.tokens,
            "tokens_per_cpu_second": last.rate,
            "peak_bytes": peak,
            "disk_bytes": parked,
            "perplexity": last.perplexity,
        }
        return json.dumps({"memory": repr(policy), **told, "nats_per_token": last.nats})
    bounded = policy.policies and (policy.evidence().bounded or policy.evidence().drops)
    kept = f"never more than {memory(peak)}" if bounded else f"at the end {memory(last.nbytes)}"
    beside = f", and {memory(parked)} on disk" if parked else ""
    line = ("\r" if sys.stdout.isatty() else "") + _line(last, parked)
    return f"{line}\n{last.tokens:,} tokens at {last.nats:.4f} nats each; the memory held {kept}{beside}."


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """What asks a process to end ends the text, so that nothing stays on disk; a second time it waits for that."""
    known = [signal.Signals[name] for name in ENDS if name in signal.Signals.__members__]
    main = threading.current_thread() is threading.main_thread()
    taken = [each for each in known if main and signal.getsignal(each) is signal.SIG_DFL]

    def end(number: int, _: object) -> None:
        for each in taken:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for each in taken:
        signal.signal(each, end)
    try:
        yield
    finally:
        for each in taken:
            signal.signal(each, signal.SIG_DFL)


def _parked(folder: str | None) -> int:
    return 0 if folder is None else sum(each.stat().st_size for each in Path(folder).iterdir())


def _line(now: Any, parked: int) -> str:
    disk = f"  {memory(parked):>10} on disk" if parked else ""
    return (
        f"{now.tokens:>10,} tokens  {now.rate:8,.0f} tokens/s  {memory(now.nbytes):>10} held{disk}"
        f"  perplexity {now.perplexity:8.3f}"
    )


@contextmanager
def _opened(name: str) -> Iterator[IO[bytes]]:
    if name == "-":
        if sys.stdin is None:
            raise AttimeError("stream needs a text on standard input for -, and it is closed: give a file.")
        yield sys.stdin.buffer
        return
    try:
        file = Path(name).expanduser().open("rb")
    except OSError as error:
        raise AttimeError(
            f"stream needs a text file that can be read, or - for standard input; {name}: {error.strerror}."
        ) from None
    with file:
        yield file


def _chunks(file: IO[bytes], encode: Encode, chunk: int) -> Iterator[Tensor]:
    """What has come, as soon as it comes, and at most `chunk` bytes at a time."""
    read = getattr(file, "read1", file.read)
    while piece := read(chunk):
        yield encode(piece)
    yield encode(b"")
