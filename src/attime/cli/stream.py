"""`attime stream`: an endless text through a language model in bounded memory, with a live line and a summary."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from attime import zoo
from attime.errors import AttimeError, MissingExtra
from attime.memory.contract import Chain, Policy, chain
from attime.memory.evict import SinkWindow
from attime.memory.named import find_policy
from attime.memory.place import Contiguous
from attime.memory.quantize import Quantize
from attime.memory.retrieve import OnDisk, Retrieve
from attime.report.units import memory

__all__ = ["reading_model", "stream"]

Encode = Callable[[bytes], Tensor]
"""From one piece of a text after the other to token ids (time,); the empty piece is the end of it."""


def stream(options: argparse.Namespace) -> int:
    """Read the text chunk by chunk; print where the stream stands, and at the end what it came to."""
    try:
        from attime.hub import attach
        from attime.hub.stream import stream as run
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "transformers", "hub", "attime stream") from error
    if options.chunk < 1:
        raise AttimeError(f"stream needs --chunk of 1 byte or more; got {options.chunk}.")
    last, peak, parked, interrupted, stopped = None, 0, 0, False, None
    with ExitStack() as open_now:
        folder = open_now.enter_context(_folder(options.disk)) if options.disk is not None else None
        policy = _memory(options, folder)
        file = open_now.enter_context(_opened(options.file))
        model, encode = reading_model(options.model)
        attached = open_now.enter_context(attach(model, policy))
        try:
            for last in run(attached, _chunks(file, encode, options.chunk)):
                peak, parked = max(peak, last.nbytes), _parked(folder)
                if not options.json and sys.stdout.isatty():
                    print(f"\r{_line(last, parked)}", end="", flush=True)
        except KeyboardInterrupt:
            interrupted = True
        except AttimeError as error:
            stopped = error
    if stopped is not None and (last is None or last.tokens < 2):
        raise stopped
    if last is None or last.tokens < 2:
        raise AttimeError(f"stream needs a text of two tokens or more; {options.file} has less.")
    print(_summary(options, policy, last, peak, parked))
    if stopped is not None:
        raise stopped
    return 130 if interrupted else 0


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


def reading_model(name: str | None) -> tuple[Any, Encode]:
    """The model and its reader; the zoo's byte model without a name or by its own."""
    if name in (None, "bytes"):
        return zoo.load("bytes").model, lambda piece: torch.tensor(list(piece), dtype=torch.long)
    from attime.hub.opened import text_model

    return text_model(str(name))


def _memory(options: argparse.Namespace, folder: str | None) -> Chain:
    """The policy that --memory, --disk and --quantize say together."""
    policies: list[Policy] = list(find_policy(options.memory).policies)
    if folder is not None:
        windows = [each for each in policies if isinstance(each, SinkWindow)]
        if len(windows) != 1 or not all(isinstance(each, SinkWindow | Contiguous) for each in policies):
            raise AttimeError(
                f"--disk parks what leaves a window, so it needs a memory such as sinks=4,window=1020; got {options.memory}."
            )
        sizes = {name: getattr(windows[0], name) for name in ("sinks", "window", "every")}
        block = min(Retrieve.block, windows[0].window - windows[0].every)
        blocks = max(1, windows[0].window // block)
        contiguous = len(policies) > 1
        policies = [Retrieve(block=block, blocks=blocks, contiguous=contiguous, where=OnDisk(path=folder), **sizes)]
    if options.quantize:
        place = next((at for at, each in enumerate(policies) if each.follows), len(policies))
        sinks = [own for each in policies if (own := getattr(each, "sinks", None)) is not None]
        policies.insert(place, Quantize(bits=options.quantize, sinks=max(sinks, default=Quantize.sinks)))
    return chain(*policies)


@contextmanager
def _folder(name: str) -> Iterator[str]:
    """A folder of this stream's own in the one that was named, gone at the end."""
    if not name.strip():
        raise AttimeError(f"--disk needs the name of a folder; got {name!r}: give one, or leave it out.")
    try:
        parent = Path(name).expanduser()
        parent.mkdir(parents=True, exist_ok=True)
        made = tempfile.TemporaryDirectory(prefix="attime-", dir=parent)
    except OSError as error:
        raise AttimeError(f"--disk needs a folder that can be written to; {name}: {error.strerror}.") from None
    with made:
        yield made.name


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
        yield sys.stdin.buffer
        return
    try:
        with Path(name).expanduser().open("rb") as file:
            yield file
    except OSError as error:
        raise AttimeError(
            f"stream needs a text file that can be read, or - for standard input; {name}: {error.strerror}."
        ) from None


def _chunks(file: IO[bytes], encode: Encode, chunk: int) -> Iterator[Tensor]:
    """What has come, as soon as it comes, and at most `chunk` bytes at a time."""
    read = getattr(file, "read1", file.read)
    while piece := read(chunk):
        yield encode(piece)
    yield encode(b"")
