"""Many trials of one task under one budget, and what they say together."""

import hashlib
import json
import os
import pickle
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from attime import __version__
from attime.errors import AttimeError
from attime.models.recipe import Recipe
from attime.models.trained import save
from attime.tasks.answer import answer, judged
from attime.tasks.contract import Task, Tokens
from attime.tasks.result import Comparison
from attime.tasks.trial import Budget, Trial
from attime.tasks.workers import Watcher, on_processes, on_ray

__all__ = ["compare", "machine"]

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
    jobs = jobs or max(1, (os.cpu_count() or 1) // budget.threads)
    rows = on_ray(trials, ray, watch) if ray else on_processes(trials, jobs, watch)
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
        machine=machine(),
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


def _keep_winner(result: Comparison, trials: Sequence[Trial], task: Task, folder: Path) -> None:
    winner = next((row for row in result.rows if row.winner), None)
    if winner is None:
        return
    trial = next(trial for trial in trials if trial.name == winner.name)
    model = trial.recipe.build()
    model.load_state_dict(torch.load(trial.file("weights"), weights_only=True))
    facts = {"protocol": result.protocol, "scores": dict(winner.scores), "settings": dict(result.settings)}
    save(folder, model, trial.recipe, reading=task.reading(), **facts, attime=__version__)


def machine() -> dict[str, Any]:
    """What all of it ran on."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
