"""Where trials run: in processes of their own on this machine, or as tasks on a Ray cluster."""

import hashlib
import json
import multiprocessing
import os
import pickle
import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from attime.errors import MissingExtra
from attime.tasks.result import Row
from attime.tasks.trial import Trial, read_row, run_trial, write_row

__all__ = ["Watcher", "on_processes", "on_ray"]

Watcher = Callable[[Mapping[str, tuple[float, str]]], None]
"""Called a few times a second with the share done (0 to 1) and a note for every job."""

FLOORS = "floors"


def on_processes(trials: Sequence[Trial], jobs: int, watch: Watcher) -> list[Row]:
    """Every unfinished trial in a fresh process, so that peak memory is its own; then the rows of all and of the floors.

    Ctrl-C asks the trials to stop at their next step; they write checkpoints, and their rows are partial.
    """
    stop, floors = trials[0].folder / "stop", _of_floors(trials[0])
    stop.unlink(missing_ok=True)
    todo = [trial for trial in trials if not trial.file("row").exists()]
    for trial in todo:
        trial.file("progress").unlink(missing_ok=True)
    found: dict[str, list[Row]] = {trial.name: [read_row(trial.file("row"))] for trial in trials if trial not in todo}
    if todo or not floors.file("floors").exists():
        threads = str(trials[0].budget.threads)
        os.environ.update({"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"})  # inherited by the processes
        with ThreadPoolExecutor(jobs) as pool:
            futures: dict[str, Future[Any]] = {FLOORS: pool.submit(_in_a_process, _run_floors, floors)}
            futures |= {trial.name: pool.submit(_in_a_process, run_trial, trial) for trial in todo}
            try:
                _wait(futures, todo, watch)
            except KeyboardInterrupt:
                stop.touch()
                for future in futures.values():
                    future.cancel()
                _wait({name: each for name, each in futures.items() if not each.cancelled()}, todo, watch)
        found |= {name: _rows(name, future) for name, future in futures.items()}
    else:
        found[FLOORS] = _run_floors(floors)
    return [row for rows in found.values() for row in rows]


def on_ray(trials: Sequence[Trial], address: str, watch: Watcher) -> list[Row]:
    """Trials as Ray tasks; Ray decides where and when. Weights come back with the rows."""
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingExtra("ray", "ray", "--ray") from error
    ray.init(address=None if address == "local" else address, ignore_reinit_error=True, log_to_driver=False)
    away, floors = ray.remote(_away), ray.remote(_floors_away)
    todo = [trial for trial in trials if not trial.file("row").exists()]
    waiting = {away.remote(trial): trial for trial in todo} | {floors.remote(_of_floors(trials[0])): None}
    shown: dict[str, tuple[float, str]] = {trial.name: (0.0, "on the cluster") for trial in todo}
    rows = [read_row(trial.file("row")) for trial in trials if trial not in todo]
    while waiting:
        watch(shown)
        for reference in ray.wait(list(waiting), timeout=0.5)[0]:
            trial = waiting.pop(reference)
            if trial is None:
                rows.extend(ray.get(reference))
                continue
            row, weights = ray.get(reference)
            trial.file("weights").write_bytes(weights)
            rows.append(write_row(trial.file("row"), row))
            shown[trial.name] = (1.0, "done")
    watch(shown)
    ray.shutdown()
    return rows


def _in_a_process(work: Callable[[Trial], Any], trial: Trial) -> Any:
    """In a fresh process of its own: one that dies takes no other with it.

    A pool of one, used once: pools that replace their processes (`max_tasks_per_child`) can hang in Python 3.11.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_deaf) as pool:
        return pool.submit(work, trial).result()


def _rows(name: str, future: Future[Any]) -> list[Row]:
    if future.cancelled():
        return [] if name == FLOORS else [Row(name=name, kind="mixer", status="partial")]
    if isinstance(future.exception(), BrokenProcessPool):
        error = "a process was ended from outside, for lack of memory perhaps; the same command goes on"
        return [] if name == FLOORS else [Row(name=name, kind="mixer", status="failed", error=error)]
    if error := future.exception():
        return [Row(name=name, kind="mixer", status="failed", error=f"{type(error).__name__}: {error}")]
    return future.result() if name == FLOORS else [future.result()]


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


def _away(trial: Trial) -> tuple[Row, bytes]:
    """A trial on a machine that may not share our disk."""
    with tempfile.TemporaryDirectory() as place:
        here = replace(trial, folder=Path(place))
        row = run_trial(here)
        return row, here.file("weights").read_bytes() if here.file("weights").exists() else b""


def _floors_away(trial: Trial) -> list[Row]:
    with tempfile.TemporaryDirectory() as place:
        return _run_floors(replace(trial, folder=Path(place)))


def _of_floors(trial: Trial) -> Trial:
    """A stand-in that names the file of the floors: they belong to the task, whatever is trained."""
    content = hashlib.sha256(pickle.dumps(trial.task)).hexdigest()[:8]
    return replace(trial, key=f"floors-{content}")


def _deaf() -> None:
    """Ctrl-C is the parent's: it asks the trials to stop, and they write their checkpoints."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
