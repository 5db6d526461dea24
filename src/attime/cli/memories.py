"""`attime compare --memory`: policies side by side under one trained model and text, in the same table and page."""

import argparse
import json
import math
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from attime import __version__, zoo
from attime.cli.stream import reading_model
from attime.errors import AttimeError, MissingExtra
from attime.memory.contract import Chain
from attime.memory.named import find_policy
from attime.report import table, write_page
from attime.report.units import memory
from attime.streams.text import standard_library
from attime.tasks.answer import judged
from attime.tasks.contract import Metric
from attime.tasks.result import Comparison, Point, Row

__all__ = ["memories"]

DEFAULT = (
    "none",
    "sinks=0,window=128",
    "sinks=4,window=124",
    "Evict(score=Received(), budget=128, recent=32, every=32) + Contiguous()",
    "Evict(score=ObservedWindow(window=32), budget=128, recent=32, every=32) + Contiguous()",
)
PERPLEXITY = Metric(name="perplexity", unit="perplexity", better="lower")
PIECE = 512  # tokens of one forward
EARLY = 1024  # after so many tokens bytes are told, and again at the end
FILES = ("memories.json", "memories.html")
MISTAKES = (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError)
"""What a policy that cannot read the text may raise; its row has failed, and the others stand."""
NEEDLES, SEED = 96, 2_000_003  # samples of the recall model, and a seed that its training never draws from


def memories(options: argparse.Namespace) -> int:
    """Read the text once per policy; print the table, the answer and where the page is."""
    try:
        from attime.hub.stream import stream  # noqa: F401 - told before anything is read
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "transformers", "hub", "attime compare --memory") from error
    if options.tokens < 2:
        raise AttimeError(f"compare --memory needs --tokens of two or more; got {options.tokens}.")
    names, file = _names(options)
    policies = {name: find_policy(name) for name in names}
    model, encode = reading_model(options.model)
    data, content = _text(file)
    tokens = torch.cat([encode(content), encode(b"")])[: options.tokens]
    if len(tokens) < 2:
        raise AttimeError(f"compare --memory needs a text and --tokens of two or more; {data} gives {len(tokens)}.")
    folder = _folder(options.out)
    console = Console(stderr=options.json)
    recaller, missing = _recaller()
    rows = []
    for name, policy in policies.items():
        console.print(f"{name}: reading {len(tokens):,} tokens", highlight=False)
        rows.append(_row(name, policy, model, tokens, recaller))
    limits = {"max_state_bytes": options.max_state_bytes} if options.max_state_bytes else {}
    ordered = judged(rows, PERPLEXITY, limits)
    result = Comparison(
        kind="memory",
        protocol=f"{options.model or 'bytes'}, {len(tokens):,} tokens",
        metric=PERPLEXITY.name,
        unit=PERPLEXITY.unit,
        better=PERPLEXITY.better,
        rows=ordered,
        answer=_answer(ordered),
        data=data,
        settings={
            "model": type(model).__name__,
            "tokens": len(tokens),
            "piece": PIECE,
            "needle": missing or "measured",
        },
        limits=limits,
        machine={
            "system": f"{platform.system()} {platform.machine()}",
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        command=shlex.join(["attime", *sys.argv[1:]]),
        attime=__version__,
        partial=any(row.status != "done" for row in ordered),
    )
    unwritten = _written(result, folder)
    if options.json:
        print(json.dumps(asdict(result)))
    else:
        _tell(console, result, missing)
    if unwritten:
        raise AttimeError(f"the results could not be written to {folder}: {unwritten}; give another --out.")
    if not options.json:
        console.print(f"page    {(folder / FILES[1]).resolve()}", soft_wrap=True, highlight=False)
    return 0


def _tell(console: Console, result: Comparison, missing: str) -> None:
    """The table and the answer."""
    console.print(table(result, width=console.width))
    console.print(f"\n[bold]{result.answer}[/]\n", highlight=False)
    if missing:
        console.print(f"needle recall is left out: {missing}", highlight=False)


def _names(options: argparse.Namespace) -> tuple[Sequence[str], str | None]:
    """The policies, and the text; it may stand behind the last policy."""
    names, file = list(options.memory), options.file
    if file is None and names and Path(names[-1]).expanduser().is_file():
        file = names.pop()
    elif file is None and names and not set("=(+") & set(names[-1]):
        try:
            find_policy(names[-1])
        except AttimeError as error:
            raise AttimeError(f"there is no text file {names[-1]!r} and no such policy: {error}") from None
    return list(dict.fromkeys(names)) or DEFAULT, file


def _folder(name: str) -> Path:
    """The folder of the results, which can be written to."""
    folder = Path(name).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        for file in FILES:
            if (folder / file).exists():
                (folder / file).open("ab").close()
    except OSError as error:
        raise AttimeError(
            f"compare --memory needs an --out that is a folder and can be written to; {name}: {error.strerror}."
        ) from None
    return folder


def _written(result: Comparison, folder: Path) -> str | None:
    """Write the results as a file and as a page; why that could not be."""
    try:
        result.save(folder / FILES[0])
        write_page(result, folder / FILES[1])
    except OSError as error:
        return error.strerror
    return None


def _text(file: str | None) -> tuple[str, bytes]:
    if file is None:
        return "held-out files of the source of Python's standard library", standard_library().test.tobytes()
    try:
        return file, Path(file).expanduser().read_bytes()
    except OSError as error:
        raise AttimeError(f"compare --memory needs a text file that can be read; {file}: {error.strerror}.") from None


def _recaller() -> tuple[Any, str]:
    """The zoo's recall model, or why there is none."""
    try:
        return zoo.load("recall"), ""
    except AttimeError as error:
        return None, str(error)


@torch.inference_mode()
def _row(name: str, policy: Chain, model: Any, tokens: Tensor, recaller: Any) -> Row:
    from attime.hub import attach
    from attime.hub.stream import stream

    try:
        with attach(model, policy) as attached:
            steps = list(stream(attached, tokens.split(PIECE)))
    except MISTAKES as error:
        said = str(error) if isinstance(error, AttimeError) else f"{type(error).__name__}: {error}"
        return Row(name=name, kind="mixer", status="failed", error=said)
    last = steps[-1]
    early = next((step for step in steps if step.tokens >= EARLY), last)
    scores = {"perplexity": last.perplexity}
    if recaller is not None and (found := _recall(recaller, policy)) is not None:
        scores["needle recall"] = found
    return Row(
        name=name,
        kind="mixer",
        scores=scores,
        quality=last.perplexity,
        part=repr(policy),
        parameters=sum(weight.numel() for weight in model.parameters()),
        train_tokens_per_s=last.rate,
        state_bytes={step.tokens: step.nbytes for step in (early, last)},
        peak_bytes=max(step.nbytes for step in steps),
        curve=tuple(
            Point(step=number, seconds=step.seconds, tokens=step.tokens, loss=step.recent_nats, quality=step.perplexity)
            for number, step in enumerate(steps, 1)
        ),
    )


def _recall(recaller: Any, policy: Chain) -> float | None:
    """How often the value of a needle is found under this policy; None where it does not fit the recall model."""
    from attime.hub import attach
    from attime.zoo.recall import NEEDLE

    batch = next(NEEDLE.train(seed=SEED, batch=NEEDLES))
    try:
        with attach(recaller.model, policy):
            return float((recaller.predict(batch).argmax(-1) == batch.targets).double().mean())
    except MISTAKES:
        return None


def _answer(rows: Sequence[Row]) -> str:
    """One sentence: the best memory, and what keeping everything comes to."""
    winner = next((row for row in rows if row.winner), None)
    if winner is None:
        return "No memory could be measured within the limits; the table says why."
    whole = next((row for row in rows if row.name == "none" and row.status == "done"), None)
    if whole is None:
        return f"Use {winner.name}: {_said(winner)}."
    if whole is not winner:
        return f"Use {winner.name}: {_said(winner)}, where keeping everything has {_said(whole)}."
    others = [row for row in rows if row.status == "done" and row is not whole and row.within_limits]
    best = min(others, key=lambda row: row.quality or math.inf, default=None)
    if best is None:
        return f"Keeping everything has {_said(whole)}."
    return f"Nothing is better than keeping everything, {_said(whole)}; the best that forgets is {best.name}: {_said(best)}."


def _said(row: Row) -> str:
    return f"perplexity {row.quality:.4g} in {memory(max(row.state_bytes.values()))}"
