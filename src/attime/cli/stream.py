"""`attime stream`: an endless text through a language model in bounded memory, with a live line and a summary."""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from attime import zoo
from attime.errors import AttimeError, MissingExtra
from attime.memory.named import find_policy
from attime.report.units import memory

__all__ = ["stream"]


def stream(options: argparse.Namespace) -> int:
    """Read the text chunk by chunk; print where the stream stands, and at the end what it came to."""
    try:
        from attime.hub import attach
        from attime.hub.stream import stream as run
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "transformers", "hub", "attime stream") from error
    policy = find_policy(options.memory)
    last, peak = None, 0
    with _opened(options.file) as file:
        model, encode = _model(options.model)
        with attach(model, policy) as attached:
            for last in run(attached, _chunks(file, encode, options.chunk)):
                peak = max(peak, last.nbytes)
                if not options.json and sys.stdout.isatty():
                    print(f"\r{_line(last)}", end="", flush=True)
    if last is None or last.tokens < 2:
        raise AttimeError(f"stream needs a text of two tokens or more; {options.file} has less.")
    if options.json:
        told = {
            "tokens": last.tokens,
            "tokens_per_cpu_second": last.rate,
            "peak_bytes": peak,
            "perplexity": last.perplexity,
        }
        print(json.dumps({"memory": repr(policy), **told, "nats_per_token": last.nats}))
        return 0
    print(("\r" if sys.stdout.isatty() else "") + _line(last))
    kept = f"never more than {memory(peak)}" if policy.policies else f"at the end {memory(last.nbytes)}"
    print(f"{last.tokens:,} tokens at {last.nats:.4f} nats each; the memory held {kept}.")
    return 0


def _line(now: Any) -> str:
    return f"{now.tokens:>10,} tokens  {now.rate:8,.0f} tokens/s  {memory(now.nbytes):>10} held  perplexity {now.perplexity:8.3f}"


def _model(path: str | None) -> tuple[Any, Any]:
    """The model, and a function from pieces of text to token ids (time,); the zoo's byte model without a path."""
    if path is None:
        return zoo.load("bytes").model, lambda piece: torch.tensor(list(piece), dtype=torch.long)
    from attime.hub.stream import text_model

    return text_model(path)


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


def _chunks(file: IO[bytes], encode: Any, chunk: int) -> Iterator[Tensor]:
    while piece := file.read(chunk):
        yield encode(piece)
