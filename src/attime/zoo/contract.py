"""What a model of the zoo is: a real class, trained here by its own recipe, measured on seeds it has never seen."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

__all__ = ["Goal", "Log", "Pretrained"]

Log = Callable[[str], None]
"""Takes one line of progress."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A bound that a number of `measure` must reach."""

    metric: str
    better: Literal["higher", "lower"]
    bound: float

    def met(self, numbers: Mapping[str, float]) -> bool:
        """Whether the number is on the good side of the bound."""
        value = numbers[self.metric]
        return value >= self.bound if self.better == "higher" else value <= self.bound

    def __str__(self) -> str:
        return f"{self.metric} {'>=' if self.better == 'higher' else '<='} {self.bound:g}"


class Pretrained(ABC):
    """One small model of a real class (`model`), what it can do, and the recipe that makes it from nothing.

    `card` holds what was measured when it was trained; it is empty for a model that has just been built.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    """One line: the class and what it was trained to do."""
    data: ClassVar[str]
    """One line: what it was trained on, and the licence of that."""
    steps: ClassVar[int]
    """Optimiser steps of the recipe."""
    goals: ClassVar[tuple[Goal, ...]]

    def __init__(self, model: nn.Module, card: Mapping[str, Any] | None = None) -> None:
        self.model = model.eval()
        self.card: Mapping[str, Any] = card or {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self.model).__name__}, {self.parameters:,} parameters)"

    @property
    def parameters(self) -> int:
        """How many numbers the model has learnt."""
        return sum(weight.numel() for weight in self.model.parameters())

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @classmethod
    @abstractmethod
    def build(cls) -> nn.Module:
        """The untrained model, from a configuration of its real class."""

    @classmethod
    @abstractmethod
    def fit(cls, model: nn.Module, *, steps: int, seed: int, log: Log) -> None:
        """Train `model` in place, on the device it is on."""

    @abstractmethod
    def measure(self, *, seed: int) -> dict[str, float]:
        """The model's numbers on data of this seed, which training never draws; every goal names one of them."""

    @classmethod
    def train(
        cls, *, steps: int | None = None, seed: int = 0, device: str = "cpu", log: Log = lambda line: None
    ) -> "Pretrained":
        """The recipe: build, fit, round the weights to float16 as they are shipped, measure, fill in the card."""
        torch.manual_seed(seed)
        model = cls.build().to(device)
        steps = cls.steps if steps is None else steps
        start, cpu = time.time(), time.process_time()
        cls.fit(model.train(), steps=steps, seed=seed, log=log)
        seconds, cpu = time.time() - start, time.process_time() - cpu
        with torch.no_grad():
            for weight in model.state_dict().values():
                if weight.is_floating_point():
                    weight.copy_(weight.half())
        made = cls(model)
        numbers = made.measure(seed=MEASURED_SEED)
        made.card = {
            "name": cls.name,
            "class": type(model).__name__,
            "about": cls.about,
            "data": cls.data,
            "parameters": made.parameters,
            "steps": steps,
            "seed": seed,
            "device": device,
            "cpu_seconds": round(cpu),
            "wall_seconds": round(seconds),
            "numbers": {name: round(value, 4) for name, value in numbers.items()},
            "measured_seed": MEASURED_SEED,
            "goals": [str(goal) for goal in cls.goals],
            "met": all(goal.met(numbers) for goal in cls.goals),
        }
        return made


MEASURED_SEED = 1_000_003
"""The seed of the numbers on the card; training draws from seeds below a million."""
