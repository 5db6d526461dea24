"""`attime compare`: which attention should I use?"""

import argparse
import json
import shlex
import shutil
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from attime.cli.sources import Source, source_of
from attime.errors import AttimeError
from attime.models.recipe import mixers as all_mixers
from attime.report import table, write_page
from attime.tasks.compare import compare as run_compare
from attime.tasks.trial import Budget
from attime.tasks.workers import Watcher

__all__ = ["compare"]

MIXERS = (
    "Softmax",
    "SlidingWindow(window=64, sinks=4)",
    "ChunkGated(chunk=16)",
    "Taylor+SlidingWindow(window=64)",
    "Decay",
    "GatedDelta",
    "Selective",
    "NeuralMemory",
)


def compare(options: argparse.Namespace) -> int:
    """Run the comparison the options describe; print the table, the answer and where the page is."""
    if options.memory is not None:
        from attime.cli.memories import memories

        return memories(options)
    if options.model is not None or options.file is not None:
        raise AttimeError("--model and FILE go with --memory; a text to train on is given by --text FILE.")
    source = source_of(options)
    budget = _budget(options, source)
    names = options.mixers or list(MIXERS)
    names = sorted(all_mixers()) if names == ["all"] else names
    limits = {name: getattr(options, name) for name in ("max_state_bytes", "max_step_ms") if getattr(options, name)}
    folder = Path(options.out)
    if options.fresh:
        shutil.rmtree(folder / "trials", ignore_errors=True)
    console = Console(stderr=options.json)
    console.print(f"[bold]{source.data}[/]  protocol [bold]{source.task.protocol}[/]", highlight=False)
    with _bars(console) as watch:
        result = run_compare(
            source.task,
            names,
            budget,
            folder=folder,
            shape={**{name: getattr(options, name) for name in ("dim", "heads", "layers", "block")}, **source.shape},
            limits=limits,
            jobs=options.jobs,
            ray=options.ray,
            data=source.data,
            command=shlex.join(["attime", *sys.argv[1:]]),
            watch=watch,
        )
    page = write_page(result, folder / "report.html")
    stopped = any(row.status == "partial" for row in result.rows)
    if options.json:
        print(json.dumps(asdict(result)))
        return 130 if stopped else 0
    console.print(table(result, width=console.width))
    console.print(f"\n[bold]{result.answer}[/]\n", highlight=False)
    console.print(f"page    {page.resolve()}", soft_wrap=True, highlight=False)
    if any(row.winner for row in result.rows):
        console.print(f"winner  attime.load({str(folder / 'winner')!r})", soft_wrap=True, highlight=False)
    if stopped:
        console.print("stopped; the same command goes on from here")
    return 130 if stopped else 0


def _budget(options: argparse.Namespace, source: Source) -> Budget:
    seconds = options.seconds if options.steps or options.seconds else source.seconds
    return Budget(
        steps=options.steps,
        seconds=None if options.steps else seconds,
        batch=options.batch or source.batch,
        learning_rate=options.learning_rate,
        seed=options.seed,
        threads=options.threads,
    )


class _Bars(AbstractContextManager["_Bars"]):
    """One progress bar per trial, with the time left; called with the share done and a note for each."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=console, transient=True)
        self.bars: dict[str, TaskID] = {}

    def __enter__(self) -> "_Bars":
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def __call__(self, shown: Mapping[str, tuple[float, str]]) -> None:
        for name, (share, note) in shown.items():
            if name not in self.bars:
                self.bars[name] = self.progress.add_task(name, total=1.0, note="", start=False)
            if share > 0:
                self.progress.start_task(self.bars[name])
            self.progress.update(self.bars[name], completed=share, note=note)


def _bars(console: Console) -> AbstractContextManager[Watcher]:
    return _Bars(console) if console.is_terminal else nullcontext(_Lines(console))


class _Lines:
    """Without a terminal: one line when a trial starts and one when it ends."""

    def __init__(self, console: Console) -> None:
        self.console, self.said = console, dict[str, str]()

    def __call__(self, shown: Mapping[str, tuple[float, str]]) -> None:
        for name, (share, note) in shown.items():
            stage = note if share in (0.0, 1.0) else "training"
            if stage not in ("waiting", "starting", self.said.get(name)):
                self.console.print(f"{name}: {stage}", highlight=False)
                self.said[name] = stage
