"""What a task is: batches with a known truth, a score, the floors that any model must beat, and a named protocol."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attime.part import Part

__all__ = ["Batch", "Metric", "Predictor", "Task", "Tokens", "Traits", "Values"]


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The model reads and predicts tokens of a vocabulary."""

    vocabulary: int


@dataclass(frozen=True, kw_only=True)
class Values:
    """The model reads `channels` numbers per time step and predicts the next `horizon` values of the channels."""

    channels: int
    horizon: int


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number that says how well it went. A task's first metric is its headline ("quality")."""

    name: str
    unit: str
    better: Literal["lower", "higher"]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One batch of a task. Outputs are asked for at the `scored` places only, flattened in row-major order."""

    inputs: Int[Tensor, "batch time"] | Float[Tensor, "batch time channels"]
    targets: Int[Tensor, " scored"] | Float[Tensor, "scored horizon channels"]
    """What follows at each scored place: a token, or the next values."""
    scored: Bool[Tensor, "batch time"]
    """Places that count in the loss and in the score."""
    valid: Bool[Tensor, "batch time"] | None = None
    """False at padding; None if there is none."""
    when_s: Float[Tensor, "batch time"] | None = None
    """Time stamps in seconds, where the task has them."""
    rows: Int[Tensor, " batch"] | None = None
    """Which sample of the split each row is (a user, a window), where the score needs to know."""


Predictor = Callable[[Batch], Tensor]
"""From a batch to outputs at its scored places: (scored, vocabulary) logits, or (scored, horizon, channels) values."""


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a task claims; each claim is checked by a law."""

    needs_time: bool = True
    """Shuffling the inputs in time makes the best floor or the oracle worse."""
    batches: bool = True
    """Trains a model: it has batches, a loss and floors."""
    asks: bool = False
    """Is a quiz: clips, questions and answers."""
    conflicting: bool = False
    """A quiz whose same question has every answer once among clips of a group that look the same in the middle."""


class Task(Part):
    """A frozen, keyword-only dataclass: the protocol is the object, and it prints itself.

    Evaluation runs over whole splits: nothing is dropped, whatever the batch size.
    """

    traits: ClassVar[Traits] = Traits()
    metrics: ClassVar[tuple[Metric, ...]]

    @property
    @abstractmethod
    def protocol(self) -> str:
        """The name under which results are comparable, such as `ett-h1/96-96`."""

    @property
    @abstractmethod
    def space(self) -> Tokens | Values:
        """What a model of this task reads and predicts."""

    @abstractmethod
    def train(self, *, seed: int, batch: int) -> Iterator[Batch]:
        """Endless training batches of `batch` rows; the same seed gives the same order to every model."""

    @abstractmethod
    def split(self, name: Literal["valid", "test"], *, batch: int = 32) -> Iterator[Batch]:
        """Every sample of a held-out split, once, in order; the last batch may be smaller."""

    @abstractmethod
    def floors(self) -> Mapping[str, Predictor]:
        """What needs no attention: predictors fitted on the training split alone, by name."""

    @abstractmethod
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The training loss, a scalar, of outputs at the scored places."""

    @abstractmethod
    def tally(self, outputs: Tensor, batch: Batch) -> Mapping[str, tuple[float, float]]:
        """For each metric (sum, count) over this batch; `score` divides the totals."""

    @abstractmethod
    def oracle(self, batch: Batch) -> Tensor:
        """Outputs made from the truth: the best that can be scored."""

    @abstractmethod
    def chance(self) -> Mapping[str, float]:
        """The score of an uninformed guess (equal logits; for values, the mean of the training split)."""

    def reading(self) -> Mapping[str, Any]:
        """How raw data becomes inputs, JSON-able, for `attime.load`: `kind` is text, tokens, series or items.

        A series adds names, mean, std, lookback and freq; items add items (a list: token `offset` + place).
        """
        return {"kind": "tokens"}

    def score(
        self, predict: Predictor, split: Literal["valid", "test"] = "test", *, batch: int = 32
    ) -> dict[str, float]:
        """Every metric of a predictor over a whole split."""
        totals: dict[str, list[float]] = {metric.name: [0.0, 0.0] for metric in self.metrics}
        with torch.no_grad():
            for each in self.split(split, batch=batch):
                for name, (total, count) in self.tally(predict(each), each).items():
                    totals[name][0] += total
                    totals[name][1] += count
        return {name: self.finish(name, total / count) for name, (total, count) in totals.items()}

    def finish(self, name: str, mean: float) -> float:
        """Turn the mean of a metric into its value (a root, say); the mean itself by default."""
        return mean
