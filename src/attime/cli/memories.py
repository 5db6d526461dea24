"""`attime compare --memory`: policies side by side under one trained model and text, in the same table and page."""

import argparse
import json
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from attime import __version__, zoo
from attime.cli.places import PAGE, named, results_folder, text_of, written
from attime.cli.reading import beyond, check_useful, in_sight, made_for, need_hub, reading_model
from attime.errors import AttimeError
from attime.memory.chained import Chain
from attime.memory.named import find_policy
from attime.report import table
from attime.report.units import memory
from attime.tasks.answer import judged
from attime.tasks.compare import machine
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
MISTAKES = (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError)
"""What a policy that cannot read the text may raise; its row has failed, and the others stand."""
NEEDLES, SEED = 96, 2_000_003  # samples of the recall model, and a seed that its training never draws from


def memories(options: argparse.Namespace) -> int:
    """Read the text once per policy; print the table, the answer and where the page is."""
    need_hub("attime compare --memory")
    if options.tokens < 2:
        raise AttimeError(f"compare --memory needs --tokens of two or more; got {options.tokens}.")
    names, file = named(options, DEFAULT)
    policies = {name: find_policy(name) for name in names}
    model, encode = reading_model(options.model)
    data, content = text_of(file)
    tokens = torch.cat([encode(content), encode(b"")])[: options.tokens]
    if len(tokens) < 2:
        raise AttimeError(f"compare --memory needs a text and --tokens of two or more; {data} gives {len(tokens)}.")
    folder = results_folder(options.out)
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
            "made for": made_for(model) or "not told",
            "piece": PIECE,
            "needle": missing or "measured",
        },
        limits=limits,
        machine=machine(),
        command=shlex.join(["attime", *sys.argv[1:]]),
        attime=__version__,
        partial=any(row.status != "done" for row in ordered),
    )
    unwritten = written(result, folder)
    if options.json:
        print(json.dumps(asdict(result)))
    else:
        console.print(table(result, width=console.width))
        console.print(f"\n[bold]{result.answer}[/]\n", highlight=False)
    for note in (_crowded(policies, model, len(tokens)), missing and f"needle recall is left out: {missing}"):
        if note:
            console.print(note, highlight=False)
    if unwritten:
        raise AttimeError(f"the results could not be written to {folder}: {unwritten}; give another --out.")
    if not options.json:
        console.print(f"page    {(folder / PAGE).resolve()}", soft_wrap=True, highlight=False)
    return 0


def _crowded(policies: Mapping[str, Chain], model: Any, tokens: int) -> str:
    """Which policies have more in sight of this text than the model was made for; nothing if none has."""
    most = made_for(model)
    if most is None:
        return ""
    seen = {name: in_sight(policy) or tokens for name, policy in policies.items()}
    names = [name for name, count in seen.items() if min(count, tokens) > most]
    return beyond(names, None, most) if names else ""


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
        check_useful(model, policy)
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
