"""The next values of all channels of a series, after a look-back window.

Protocol: values are scaled by mean and (population) standard deviation of the training rows. A window is every run of
          `lookback` rows whose `horizon` following rows lie in the split; the rows looked back on may lie before it. The
          score is the mean over all windows, steps and channels, on scaled values; no window is ever dropped.
          ETT-h1 is cut at 8640 / 11520 / 14400 rows (the rest is unused, as in the field), other series at 70 / 10 / 20 %.
Source:   Informer, arXiv 2012.07436, and the Time-Series-Library; the drop_last mistake of both is not repeated.
Floors:   last value, the same time one period ago, the mean profile of the whole periods in the window, the mean of the
          window, the mean of the training rows. A published ETT-h1 number that does not beat the profile says little.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from attime.errors import AttimeError
from attime.streams.public import public
from attime.streams.series import Series
from attime.tasks.contract import Batch, Metric, Predictor, Task, Values

__all__ = ["Forecast"]

BORDERS = {"ett-h1": (8640, 11520, 14400)}


@final
@dataclass(frozen=True, kw_only=True)
class Forecast(Task):
    """Forecasting with a fixed look-back (see the module docstring).

    `borders` are the rows where training, validation and test end. In training the last `dense` places of each window
    are scored: one as in the test, or more, which a causal model learns from at almost no cost.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="mse", unit="MSE", better="lower"),
        Metric(name="mae", unit="MAE", better="lower"),
    )
    series: Series = field(repr=False)
    lookback: int = 96
    horizon: int = 96
    borders: tuple[int, int, int]
    period: int | None = None
    dense: int = 1

    def __post_init__(self) -> None:
        if self.lookback < 1 or self.horizon < 1 or not 1 <= self.dense <= self.lookback:
            raise AttimeError(
                f"Forecast needs lookback >= 1, horizon >= 1 and 1 <= dense <= lookback; got lookback={self.lookback}, "
                f"horizon={self.horizon}, dense={self.dense}."
            )
        rows, (first, second, last) = len(self.series.values), self.borders
        if not 0 < first < second < last <= rows:
            raise AttimeError(f"Forecast needs borders that rise from 1 to the {rows} rows; got {self.borders}.")
        windows = first - self.lookback - self.horizon + 1
        shortest = min(second - first, last - second)
        if windows < 1 or shortest < self.horizon:
            raise AttimeError(
                f"Forecast needs at least lookback + horizon = {self.lookback + self.horizon} rows to train on and "
                f"horizon = {self.horizon} in each held-out part; {self.series.name} has {first} and {shortest}: "
                f"take a shorter look-back or horizon, or more data."
            )

    @classmethod
    def of(
        cls,
        series: Series,
        *,
        target: str | Sequence[str] | None = None,
        lookback: int = 96,
        horizon: int = 96,
        dense: int = 1,
    ) -> "Forecast":
        """The task on any series, cut at 70 / 10 / 20 %; `target` names the channels, all by default."""
        chosen = series if target is None else series.only(target)
        rows = len(series.values)
        first = int(rows * 0.7)
        borders = BORDERS.get(series.name, (first, rows - int(rows * 0.2), rows))
        return cls(
            series=chosen, lookback=lookback, horizon=horizon, borders=borders, period=series.period, dense=dense
        )

    @classmethod
    def public(cls, name: str = "ett-h1", *, lookback: int = 96, horizon: int = 96, dense: int = 1) -> "Forecast":
        """The task on a public series, in the field's protocol."""
        series = public(name)
        if not isinstance(series, Series):
            raise AttimeError(f"Forecast needs a series; {name} is not one: take ett-h1, exchange-rate or illness.")
        return cls.of(series, lookback=lookback, horizon=horizon, dense=dense)

    @property
    def protocol(self) -> str:
        return f"{self.series.name}/{self.lookback}-{self.horizon}"

    @property
    def space(self) -> Values:
        return Values(channels=len(self.series.names), horizon=self.horizon)

    def train(self, *, seed: int, batch: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed)
        values, when = self._scaled(), self._when()
        count = self.borders[0] - self.lookback - self.horizon + 1
        order = torch.zeros(0, dtype=torch.long)
        while True:
            while len(order) < batch:
                order = torch.cat([order, torch.randperm(count, generator=generator)])
            yield self._batch(values, when, order[:batch], dense=self.dense)
            order = order[batch:]

    def split(self, name: Literal["valid", "test"], *, batch: int = 32) -> Iterator[Batch]:
        values, when = self._scaled(), self._when()
        start, stop = self.borders[:2] if name == "valid" else self.borders[1:]
        first = torch.arange(start, stop - self.horizon + 1) - self.lookback
        for rows in torch.arange(len(first)).split(batch):
            yield self._batch(values, when, first[rows], rows=rows)

    def floors(self) -> Mapping[str, Predictor]:
        floors: dict[str, Predictor] = {
            "last value": lambda batch: batch.inputs[:, -1:].expand(-1, self.horizon, -1),
            "window mean": lambda batch: batch.inputs.mean(dim=1, keepdim=True).expand(-1, self.horizon, -1),
            "train mean": lambda batch: torch.zeros(len(batch.inputs), self.horizon, batch.inputs.shape[2]),
        }
        if self.period is not None and self.period <= self.lookback:
            floors |= {f"same time a {self._ago()} ago": self._last_period, f"{self._ago()} profile": self._profile}
        return floors

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.mse_loss(outputs, batch.targets.to(outputs.dtype))

    def tally(self, outputs: Tensor, batch: Batch) -> Mapping[str, tuple[float, float]]:
        error = outputs.double() - batch.targets
        return {
            "mse": (float(error.square().sum()), float(error.numel())),
            "mae": (float(error.abs().sum()), float(error.numel())),
        }

    def oracle(self, batch: Batch) -> Tensor:
        return batch.targets.clone()

    def chance(self) -> Mapping[str, float]:
        """Always the mean of the training rows."""
        return self.score(self.floors()["train mean"], batch=512)

    def reading(self) -> Mapping[str, Any]:
        mean, std = self._mean_std()
        return {
            "kind": "series",
            "names": list(self.series.names),
            "mean": mean.tolist(),
            "std": std.tolist(),
            "lookback": self.lookback,
            "freq": self.series.freq,
        }

    @classmethod
    def examples(cls) -> Sequence["Forecast"]:
        random = np.random.default_rng(0)
        noise = random.normal(size=(300, 2)).cumsum(axis=0) * 0.05
        wave = np.sin(2 * np.pi * np.arange(300)[:, None] / 24 + np.array([0.0, 1.0]))
        hourly = Series(name="waves", values=10 + 3 * wave + noise, names=("a", "b"), freq="1h")
        slow = [np.zeros(2)]
        for step in random.normal(size=(119, 2)):
            slow.append(0.9 * slow[-1] + step)
        plain = Series(name="slow", values=np.stack(slow), names=("a", "b"))
        return [
            cls.of(hourly, lookback=49, horizon=13, dense=5),
            cls.of(plain, target="b", lookback=9, horizon=4),
        ]

    def _mean_std(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        rows = self.series.values[: self.borders[0]]
        std = rows.std(axis=0)
        return rows.mean(axis=0), np.where(std > 0, std, 1.0)

    def _scaled(self) -> Tensor:
        mean, std = self._mean_std()
        return torch.from_numpy((self.series.values - mean) / std).float()

    def _when(self) -> Tensor | None:
        return None if self.series.when_s is None else torch.from_numpy(self.series.when_s)

    def _batch(
        self, values: Tensor, when: Tensor | None, first: Tensor, *, dense: int = 1, rows: Tensor | None = None
    ) -> Batch:
        time = first[:, None] + torch.arange(self.lookback)
        after = time[:, -dense:, None] + torch.arange(1, self.horizon + 1)
        scored = torch.zeros(time.shape, dtype=torch.bool)
        scored[:, -dense:] = True
        return Batch(
            inputs=values[time],
            targets=values[after].flatten(0, 1),
            scored=scored,
            when_s=None if when is None else when[time],
            rows=rows,
        )

    def _ago(self) -> str:
        names = {"h": "day", "min": "day", "s": "day", "d": "week", "w": "year", "mo": "year"}
        unit = (self.series.freq or "").lstrip("0123456789")
        return names.get(unit, "period")

    def _periods(self, batch: Batch) -> Tensor:
        """(batch, whole periods, period, channels) of the end of the window."""
        period = self.period or 1
        whole = batch.inputs.shape[1] // period
        return batch.inputs[:, -whole * period :].unflatten(1, (whole, period))

    def _repeated(self, period: Tensor) -> Tensor:
        return period[:, torch.arange(self.horizon) % period.shape[1]]

    def _last_period(self, batch: Batch) -> Tensor:
        return self._repeated(self._periods(batch)[:, -1])

    def _profile(self, batch: Batch) -> Tensor:
        return self._repeated(self._periods(batch).mean(dim=1))
