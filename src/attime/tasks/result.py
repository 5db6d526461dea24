"""What a comparison found, as plain data: what `results.json` holds and what the report draws."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

__all__ = ["Comparison", "Point", "Row"]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of a learning curve."""

    step: int
    seconds: float
    """CPU seconds of training so far."""
    tokens: int
    loss: float
    """Training loss, averaged since the last point."""
    quality: float | None = None
    """Headline metric on the validation split, where it was measured."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: a mixer or a floor."""

    name: str
    """Short name, such as `Decay`."""
    kind: Literal["mixer", "floor"]
    scores: Mapping[str, float] = field(default_factory=dict)
    """Every metric on the test split."""
    quality: float | None = None
    """The headline metric on the test split; None while it is not known."""
    part: str = ""
    """Import path of the mixer, such as `attention.linear.Decay`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    parameters: int | None = None
    train_tokens_per_s: float | None = None
    step_ms: Mapping[int, float] = field(default_factory=dict)
    """Median latency of one streaming step of the whole model after a past of so many tokens."""
    state_bytes: Mapping[int, int] = field(default_factory=dict)
    """Bytes of state of the whole model after a past of so many tokens (1024 and 65536), one stream."""
    peak_bytes: int | None = None
    """Peak memory of the training process above what it held before the first step."""
    curve: tuple[Point, ...] = ()
    status: Literal["done", "partial", "failed"] = "done"
    error: str = ""
    pareto: bool = False
    """No other mixer is at least as good in both quality and state bytes at the long past, and better in one."""
    within_limits: bool = True
    """Meets `--max-state-bytes` and `--max-step-ms`."""
    winner: bool = False

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> "Row":
        """A row from what JSON gives back: its keys are words, ours are numbers of tokens."""
        numbers = {
            name: {int(past): value for past, value in data[name].items()} for name in ("step_ms", "state_bytes")
        }
        return cls(**{**data, **numbers, "curve": tuple(Point(**point) for point in data["curve"])})


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A whole run of `attime compare`."""

    kind: Literal["attention", "memory"] = "attention"
    """Mixers that were trained, or memory policies under one trained model: then rows are policies, training is reading."""
    protocol: str
    metric: str
    unit: str
    better: Literal["lower", "higher"]
    rows: tuple[Row, ...]
    answer: str
    """One sentence: the winner and by how much, or that nothing beats the floor."""
    data: str
    """What was learnt from, in words."""
    settings: Mapping[str, Any]
    """Seed, steps or seconds, batch, dim, depth, learning rate, threads: all that is needed to run it again."""
    limits: Mapping[str, float] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    attime: str = ""
    partial: bool = False
    """Some trials were interrupted or failed."""

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> "Comparison":
        """Read what `save` wrote."""
        data = json.loads(path.read_text())
        data["rows"] = tuple(Row.read(row) for row in data["rows"])
        return cls(**data)
