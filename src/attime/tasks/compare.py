"""Many trials of one task, in parallel processes or on a Ray cluster, and what they say together."""

import hashlib
import json
import multiprocessing
import os
import pickle
import platform
import re
import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from attime import __version__
from attime.errors import AttimeError, MissingExtra
from attime.models.recipe import Recipe
from attime.models.trained import save
from attime.tasks.answer import answer, judged
from attime.tasks.contract import Task, Tokens
from attime.tasks.result import Comparison, Row
from attime.tasks.trial import Budget, Trial, run_trial

__all__ = ["Watcher", "compare"]

Watcher = Callable[[Mapping[str, tuple[float, str]]], None]
"""Called a few times a second with the share done (0 to 1) and a note for every job."""

FLOORS = "floors"
TOLERANCE = 0.05  # how far apart the parameter counts of compared models may be


def compare(
    task: Task,
    mixers: Sequence[str],
    budget: Budget,
    *,
    folder: Path,
    shape: Mapping[str, Any] | None = None,
    limits: Mapping[str, float] | None = None,
    jobs: int | None = None,
    ray: str | None = None,
    data: str = "",
    command: str = "",
    watch: Watcher = lambda _: None,
) -> Comparison:
    """Train every mixer on the task under one budget and say which to use.

    `shape` holds further fields of Recipe (dim, heads, layers, block). Finished trials in `folder` are read back and
    interrupted ones go on, so that the same call resumes. Ctrl-C stops the trials at their next step and returns
    a partial result. Writes results.json and winner/ into `folder`.
    """
    if not mixers:
        raise AttimeError("compare needs at least one mixer; got none.")
    trials = _trials(task, mixers, budget, folder, shape or {})
    (folder / "trials").mkdir(parents=True, exist_ok=True)
    stop = folder / "trials" / "stop"
    stop.unlink(missing_ok=True)
    rows = (
        _on_ray(trials, task, ray, watch) if ray else _on_processes(trials, task, jobs or _cores(budget), watch, stop)
    )
    metric, limits = task.metrics[0], limits or {}
    ordered = judged(rows, metric, limits)
    result = Comparison(
        protocol=task.protocol,
        metric=metric.name,
        unit=metric.unit,
        better=metric.better,
        rows=ordered,
        answer=answer(ordered, metric, limits),
        data=data or task.protocol,
        settings={
            **asdict(budget),
            **{name: getattr(trials[0].recipe, name) for name in ("dim", "heads", "layers", "block")},
        },
        limits=limits,
        machine=_machine(),
        command=command,
        attime=__version__,
        partial=any(row.status != "done" for row in ordered) or len(ordered) <= len(trials),
    )
    result.save(folder / "results.json")
    _keep_winner(result, trials, task, folder / "winner")
    return result


def _trials(task: Task, mixers: Sequence[str], budget: Budget, folder: Path, shape: Mapping[str, Any]) -> list[Trial]:
    """One trial per mixer, refused unless all have the same size within 5 %."""
    space, content = task.space, hashlib.sha256(pickle.dumps(task)).hexdigest()
    sizes = {"vocabulary": space.vocabulary} if isinstance(space, Tokens) else asdict(space)
    trials, counts = [], {}
    for mixer in dict.fromkeys(mixers):
        recipe = Recipe(mixer=mixer, **{**sizes, **shape})
        counts[mixer] = sum(weight.numel() for weight in recipe.build().parameters())
        key = json.dumps([content, asdict(recipe), asdict(budget), __version__])
        name = f"{re.sub(r'[^A-Za-z0-9]+', '-', mixer).strip('-')}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
        trials.append(Trial(name=mixer, key=name, recipe=recipe, task=task, budget=budget, folder=folder / "trials"))
    low, high = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    if counts[high] > (1 + TOLERANCE) * counts[low]:
        raise AttimeError(
            f"the models must have the same size within 5 %: {high} has {counts[high]:,} parameters and {low} "
            f"{counts[low]:,}; raise --block until the larger mixer leaves room for its channel mixer."
        )
    return trials


def _run_floors(trial: Trial) -> list[Row]:
    """The task's floors as rows; read back if they are known."""
    path = trial.file("floors")
    if not path.exists():
        task, name = trial.task, trial.task.metrics[0].name
        rows = []
        for floor, predict in task.floors().items():
            scores = task.score(predict)
            rows.append(Row(name=floor, kind="floor", scores=scores, quality=scores[name]))
        path.with_suffix(".part").write_text(json.dumps([asdict(row) for row in rows]))
        os.replace(path.with_suffix(".part"), path)
    return [Row.read(row) for row in json.loads(path.read_text())]


def _on_processes(trials: Sequence[Trial], task: Task, jobs: int, watch: Watcher, stop: Path) -> list[Row]:
    """Every trial in a fresh process of its own, so that peak memory is its own."""
    floors = _floor_trial(trials[0])
    threads = str(trials[0].budget.threads)
    os.environ.update({"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"})  # inherited by the processes
    context = multiprocessing.get_context("spawn")
    for trial in trials:
        trial.file("progress").unlink(missing_ok=True)
    with ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1, initializer=_deaf) as pool:
        futures: dict[str, Future[Any]] = {FLOORS: pool.submit(_run_floors, floors)}
        futures |= {trial.name: pool.submit(run_trial, trial) for trial in trials}
        try:
            _wait(futures, trials, watch)
        except KeyboardInterrupt:
            stop.touch()
            for future in futures.values():
                future.cancel()
            _wait({name: future for name, future in futures.items() if not future.cancelled()}, trials, watch)
    rows = []
    for name, future in futures.items():
        if future.cancelled():
            if name != FLOORS:
                rows.append(Row(name=name, kind="mixer", status="partial"))
        elif error := future.exception():
            rows.append(Row(name=name, kind="mixer", status="failed", error=f"{type(error).__name__}: {error}"))
        else:
            rows.extend(future.result() if name == FLOORS else [future.result()])
    return rows


def _wait(futures: Mapping[str, Future[Any]], trials: Sequence[Trial], watch: Watcher) -> None:
    files = {trial.name: trial.file("progress") for trial in trials}
    while True:
        shown = {}
        for name, future in futures.items():
            if future.done():
                shown[name] = (1.0, "failed" if future.exception() else "done")
            elif name in files and files[name].exists():
                progress = json.loads(files[name].read_text())
                shown[name] = (min(progress["share"], 0.999), progress["note"])
            else:
                shown[name] = (0.0, "waiting" if not future.running() else "starting")
        watch(shown)
        if all(future.done() for future in futures.values()):
            return
        time.sleep(0.25)


def _on_ray(trials: Sequence[Trial], task: Task, address: str, watch: Watcher) -> list[Row]:
    """Trials as Ray tasks; Ray decides where and when. Weights come back with the rows."""
    try:
        import ray  # type: ignore[import-not-found]
    except ImportError as error:
        raise MissingExtra("ray", "ray", "--ray") from error
    ray.init(address=None if address == "local" else address, ignore_reinit_error=True, log_to_driver=False)
    remote, floors = ray.remote(_away), ray.remote(_floors_away)
    waiting = {remote.remote(trial): trial.name for trial in trials} | {floors.remote(_floor_trial(trials[0])): FLOORS}
    by_name, rows = {trial.name: trial for trial in trials}, list[Row]()
    shown: dict[str, tuple[float, str]] = dict.fromkeys(waiting.values(), (0.0, "on the cluster"))
    while waiting:
        watch(shown)
        ready, _ = ray.wait(list(waiting), timeout=0.5)
        for reference in ready:
            name = waiting.pop(reference)
            shown[name] = (1.0, "done")
            if name == FLOORS:
                rows.extend(ray.get(reference))
                continue
            row, weights = ray.get(reference)
            if weights:
                by_name[name].file("weights").write_bytes(weights)
            rows.append(row)
    ray.shutdown()
    return rows


def _away(trial: Trial) -> tuple[Row, bytes]:
    """A trial on a machine that may not share our disk."""
    with tempfile.TemporaryDirectory() as place:
        here = replace(trial, folder=Path(place))
        row = run_trial(here)
        return row, here.file("weights").read_bytes() if here.file("weights").exists() else b""


def _floors_away(trial: Trial) -> list[Row]:
    with tempfile.TemporaryDirectory() as place:
        return _run_floors(replace(trial, folder=Path(place)))


def _floor_trial(trial: Trial) -> Trial:
    content = hashlib.sha256(pickle.dumps(trial.task)).hexdigest()[:8]
    return replace(trial, key=f"floors-{content}")


def _keep_winner(result: Comparison, trials: Sequence[Trial], task: Task, folder: Path) -> None:
    winner = next((row for row in result.rows if row.winner), None)
    if winner is None:
        return
    trial = next(trial for trial in trials if trial.name == winner.name)
    model = trial.recipe.build()
    model.load_state_dict(torch.load(trial.file("weights"), weights_only=True))
    facts = {"protocol": result.protocol, "scores": dict(winner.scores), "settings": dict(result.settings)}
    save(folder, model, trial.recipe, reading=task.reading(), **facts, attime=__version__)


def _deaf() -> None:
    """Ctrl-C is the parent's: it asks the trials to stop, and they write their checkpoints."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _cores(budget: Budget) -> int:
    return max(1, (os.cpu_count() or 1) // budget.threads)


def _machine() -> dict[str, Any]:
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
