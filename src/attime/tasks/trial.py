"""One trial: the same small backbone with one mixer, trained under a budget, measured, written down."""

import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from attime.errors import AttimeError
from attime.models.contract import Model
from attime.models.recipe import Recipe
from attime.tasks.contract import Batch, Task
from attime.tasks.measure import state_bytes, step_ms
from attime.tasks.result import Point, Row

__all__ = ["Budget", "Interrupted", "Trial", "outputs_of", "read_row", "run_trial", "write_row"]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What every mixer gets: the same optimiser steps, or the same CPU seconds of training."""

    steps: int | None = None
    seconds: float | None = None
    batch: int = 16
    learning_rate: float = 3e-3
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.seconds is None):
            raise AttimeError(
                f"Budget needs steps or seconds, one of them; got steps={self.steps}, seconds={self.seconds}."
            )
        for name, value in asdict(self).items():
            if name != "seed" and value is not None and not value > 0:
                raise AttimeError(f"Budget needs {name} > 0; got {value}.")

    def spent(self, step: int, seconds: float) -> float:
        """Share of the budget used, 0 to 1."""
        return min(1.0, step / self.steps if self.steps else seconds / (self.seconds or 1.0))


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A mixer to train on a task. All its files live in `folder` under `key`."""

    name: str
    key: str
    recipe: Recipe
    task: Task
    budget: Budget
    folder: Path

    def file(self, kind: str) -> Path:
        """The trial's file of a kind: row (result), progress, checkpoint, weights."""
        return self.folder / f"{self.key}.{kind}"


class Interrupted(Exception):
    """The trial was asked to stop; its checkpoint is written."""


def outputs_of(model: Model) -> Callable[[Batch], Tensor]:
    """The model as a predictor: outputs at the batch's scored places."""

    def predict(batch: Batch) -> Tensor:
        hidden, _ = model(batch.inputs, valid=batch.valid)
        return model.head(hidden[batch.scored])

    return predict


def run_trial(trial: Trial) -> Row:
    """Train, score and measure one mixer; a finished trial is read back, an interrupted one goes on."""
    done = trial.file("row")
    if done.exists():
        return read_row(done)
    torch.set_num_threads(trial.budget.threads)
    model = trial.recipe.build(seed=trial.budget.seed)
    row = Row(
        name=trial.name,
        kind="mixer",
        part=trial.recipe.mixer,
        options=asdict(trial.recipe),
        parameters=sum(weight.numel() for weight in model.parameters()),
        state_bytes=state_bytes(model, trial.task.space),
    )
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the most that was held counts from here
    before = _memory("VmRSS")
    try:
        curve, tokens_per_s = _train(trial, model)
    except Interrupted:
        return replace(row, status="partial", curve=_curve(trial))
    except FloatingPointError as error:
        return write_row(done, replace(row, status="failed", error=str(error), curve=_curve(trial)))
    peak = max(0, _memory("VmHWM") - before)
    model.eval()
    _say(trial, 1.0, "scoring")
    scores = trial.task.score(outputs_of(model))
    row = replace(
        row,
        scores=scores,
        quality=scores[trial.task.metrics[0].name],
        train_tokens_per_s=tokens_per_s,
        peak_bytes=peak,
        curve=curve,
        step_ms=step_ms(model, trial.task.space),
    )
    torch.save(model.state_dict(), trial.file("weights"))
    _say(trial, 1.0, "done")
    trial.file("checkpoint").unlink(missing_ok=True)
    return write_row(done, row)


def write_row(path: Path, row: Row) -> Row:
    """Write a row where `read_row` finds it, all at once."""
    path.with_suffix(".part").write_text(json.dumps(asdict(row)))
    os.replace(path.with_suffix(".part"), path)
    return row


def read_row(path: Path) -> Row:
    """A row as `run_trial` wrote it."""
    return Row.read(json.loads(path.read_text()))


def _train(trial: Trial, model: Model) -> tuple[tuple[Point, ...], float]:
    """Train until the budget is spent; learning curve and training tokens per CPU second."""
    budget, task = trial.budget, trial.task
    optimizers = _optimizers(model, budget.learning_rate)
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    step, seconds, tokens, curve = 0, 0.0, 0, list[Point]()
    batches = task.train(seed=budget.seed, batch=budget.batch)
    saved = trial.file("checkpoint")
    if saved.exists():
        state = torch.load(saved, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, old in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(old)
        step, seconds, tokens = state["step"], state["seconds"], state["tokens"]
        curve = [Point(**point) for point in state["curve"]]
        for _ in range(step):  # the data order goes on where it stopped
            next(batches)
    model.train()
    losses, heard, kept = list[Tensor](), 0.0, time.monotonic()

    def keep() -> None:
        state = {"step": step, "seconds": seconds, "tokens": tokens, "curve": [asdict(point) for point in curve]}
        weights = {"model": model.state_dict(), "optimizers": [optimizer.state_dict() for optimizer in optimizers]}
        torch.save({**state, **weights}, saved.with_suffix(".part"))
        os.replace(saved.with_suffix(".part"), saved)

    while (spent := budget.spent(step, seconds)) < 1:
        start = time.process_time()
        batch = next(batches)
        scale = min(1.0, (spent + 1e-3) / 0.05) * min(1.0, (1 - spent) / 0.6)  # warm up, hold, cool down
        for optimizer, old in zip(optimizers, rates, strict=True):
            for group, rate in zip(optimizer.param_groups, old, strict=True):
                group["lr"] = rate * scale
            optimizer.zero_grad()
        loss = task.loss(outputs_of(model)(batch), batch)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if not bool(norm.isfinite()):
            raise FloatingPointError(
                f"the loss or its gradient was not finite at step {step}; try a lower --learning-rate."
            )
        for optimizer in optimizers:
            optimizer.step()
        step, tokens = step + 1, tokens + batch.scored.numel()
        losses.append(loss.detach())
        seconds += time.process_time() - start
        spent = budget.spent(step, seconds)
        if spent >= (len(curve) + 1) / 30 or spent >= 1:
            curve.append(Point(step=step, seconds=seconds, tokens=tokens, loss=float(torch.stack(losses).mean())))
            losses = []
        now = time.monotonic()
        if now - heard > 0.3:
            heard = now
            _say(trial, spent, f"loss {curve[-1].loss if curve else float(loss.detach()):.3f}")
            if (trial.folder / "stop").exists():
                keep()
                raise Interrupted
        if now - kept > 30:
            kept = now
            keep()
    return tuple(curve), tokens / max(seconds, 1e-9)


def _optimizers(model: Model, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the stack, AdamW for embeddings, heads, gains and biases."""
    matrices = [weight for name, weight in model.named_parameters() if weight.ndim == 2 and name.startswith("stack.")]
    chosen = {id(weight) for weight in matrices}
    rest = [weight for weight in model.parameters() if id(weight) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def _say(trial: Trial, share: float, note: str) -> None:
    path = trial.file("progress")
    path.with_suffix(".writing").write_text(json.dumps({"share": share, "note": note}))
    os.replace(path.with_suffix(".writing"), path)


def _curve(trial: Trial) -> tuple[Point, ...]:
    saved = trial.file("checkpoint")
    if not saved.exists():
        return ()
    return tuple(Point(**point) for point in torch.load(saved, weights_only=True)["curve"])


def _memory(name: Literal["VmRSS", "VmHWM"]) -> int:
    """Bytes that the process holds (VmRSS) or has held at most (VmHWM).

    Linux says both; `ru_maxrss`, all that other systems say, also counts what the parent process held.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith(name))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
