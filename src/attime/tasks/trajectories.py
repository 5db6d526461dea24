"""Where somebody walks: the next 12 positions after 8, one every 0.4 s, in a place that was never seen.

Protocol: leave one scene out of five (eth, hotel, univ, zara1, zara2). Walks are runs of 20 consecutive recorded frames, stride
          one, of everybody who is there in all of them; positions are in metres, relative to the last one seen. Mean
          distance over the 12 steps (ADE) and at the last (FDE), mean over walks, single forecast. The field then takes
          the plain mean of the five scenes. Training and validation cuts of the other scenes are those of Social GAN.
Source:   Social GAN, arXiv 1803.10892 (scenes, cuts); What the constant velocity model can teach us, arXiv 1903.07933.
Floors:   standing still, constant velocity of the last step, mean velocity, a straight line by least squares. Constant velocity
          beats a good part of the published single forecasts.
Differs:  windows with one walker count too, as in the constant-velocity paper; nothing looks ahead.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attime.errors import AttimeError
from attime.streams.public import public
from attime.streams.tracks import Tracks
from attime.tasks.contract import Batch, Metric, Predictor, Task, Values

__all__ = ["Trajectories"]

STEP_S = 0.4
SCENES = {
    "eth": ("biwi_eth",),
    "hotel": ("biwi_hotel",),
    "univ": ("students001", "students003"),
    "zara1": ("crowds_zara01",),
    "zara2": ("crowds_zara02",),
}
ONLY_TRAINING = ("crowds_zara03", "uni_examples")

Walks = NDArray[np.float32]


@final
@dataclass(frozen=True, kw_only=True)
class Trajectories(Task):
    """Forecasts of walks (see the module docstring). Walks are (walks, past + future, 2)."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="ADE", unit="m", better="lower"),
        Metric(name="FDE", unit="m", better="lower"),
    )
    name: str
    walks_train: Walks = field(repr=False, compare=False)
    walks_valid: Walks = field(repr=False, compare=False)
    walks_test: Walks = field(repr=False, compare=False)
    past: int = 8
    future: int = 12

    def __post_init__(self) -> None:
        for walks in (self.walks_train, self.walks_valid, self.walks_test):
            if self.past < 2 or self.future < 1 or walks.shape[1:] != (self.past + self.future, 2) or not len(walks):
                raise AttimeError(
                    f"Trajectories needs past >= 2, future >= 1 and in each part walks of {self.past + self.future} "
                    f"positions (walks, time, 2); got sizes {walks.shape}."
                )

    @classmethod
    def public(cls, scene: str = "eth") -> "Trajectories":
        """The task on ETH/UCY with one scene left out: eth, hotel, univ, zara1 or zara2."""
        if scene not in SCENES:
            raise AttimeError(f"Trajectories knows the scenes {', '.join(SCENES)}; got {scene!r}.")
        tracks = public("eth-ucy")
        assert isinstance(tracks, Tracks)
        others = [name for each in SCENES if each != scene for name in SCENES[each]] + list(ONLY_TRAINING)
        parts = {
            "train": [f"train/{name}_train" for name in others],
            "valid": [f"val/{name}_val" for name in others],
            "test": [f"all/{name}" for name in SCENES[scene]],
        }
        walks = {
            part: np.concatenate([tracks.windows(name, 20) for name in names]).astype(np.float32)
            for part, names in parts.items()
        }
        return cls(
            name=f"eth-ucy/{scene}", walks_train=walks["train"], walks_valid=walks["valid"], walks_test=walks["test"]
        )

    @property
    def protocol(self) -> str:
        return f"{self.name}/{self.past}-{self.future}"

    @property
    def space(self) -> Values:
        return Values(channels=2, horizon=self.future)

    def train(self, *, seed: int, batch: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed)
        order = torch.zeros(0, dtype=torch.long)
        while True:
            while len(order) < batch:
                order = torch.cat([order, torch.randperm(len(self.walks_train), generator=generator)])
            yield self._batch(self.walks_train, order[:batch])
            order = order[batch:]

    def split(self, name: Literal["valid", "test"], *, batch: int = 32) -> Iterator[Batch]:
        walks = self.walks_valid if name == "valid" else self.walks_test
        for rows in torch.arange(len(walks)).split(batch):
            yield self._batch(walks, rows)

    def floors(self) -> Mapping[str, Predictor]:
        ahead = torch.arange(1, self.future + 1, dtype=torch.float32)[None, :, None]

        def line(batch: Batch) -> Tensor:
            time = torch.arange(self.past, dtype=torch.float32)
            centred = (time - time.mean())[None, :, None]
            slope = (centred * batch.inputs).sum(dim=1, keepdim=True) / centred.square().sum()
            return batch.inputs.mean(dim=1, keepdim=True) + slope * (ahead + (self.past - 1) / 2)

        def straight(batch: Batch, steps: int) -> Tensor:
            last = batch.inputs[:, -1:]
            return last + (last - batch.inputs[:, -1 - steps, None]) / steps * ahead

        return {
            "standing still": lambda batch: batch.inputs[:, -1:].expand(-1, self.future, -1),
            "constant velocity": lambda batch: straight(batch, 1),
            "mean velocity": lambda batch: straight(batch, self.past - 1),
            "straight line": line,
        }

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean distance; its square would be ruled by the fastest walkers."""
        return (outputs - batch.targets).square().sum(dim=-1).add(1e-6).sqrt().mean()

    def tally(self, outputs: Tensor, batch: Batch) -> Mapping[str, tuple[float, float]]:
        far = (outputs.double() - batch.targets).norm(dim=-1)
        count = float(len(far))
        return {"ADE": (float(far.mean(dim=1).sum()), count), "FDE": (float(far[:, -1].sum()), count)}

    def oracle(self, batch: Batch) -> Tensor:
        return batch.targets.clone()

    def chance(self) -> Mapping[str, float]:
        """Everybody stays where they were last seen, the zero of these values."""
        return self.score(lambda batch: torch.zeros_like(batch.targets), batch=1024)

    @classmethod
    def examples(cls) -> Sequence["Trajectories"]:
        random = np.random.default_rng(0)

        def walks(count: int, length: int) -> Walks:
            velocity = random.normal(size=(count, 1, 2)) + 0.1 * random.normal(size=(count, length, 2)).cumsum(axis=1)
            return (0.4 * velocity.cumsum(axis=1) + 10 * random.normal(size=(count, 1, 2))).astype(np.float32)

        return [
            cls(
                name="walkers",
                walks_train=walks(90, past + future),
                walks_valid=walks(20, past + future),
                walks_test=walks(45, past + future),
                past=past,
                future=future,
            )
            for past, future in ((8, 12), (5, 3))
        ]

    def _batch(self, walks: Walks, rows: Tensor) -> Batch:
        chosen = torch.from_numpy(walks)[rows]
        chosen = chosen - chosen[:, self.past - 1, None]
        scored = torch.zeros(len(rows), self.past, dtype=torch.bool)
        scored[:, -1] = True
        return Batch(
            inputs=chosen[:, : self.past],
            targets=chosen[:, self.past :],
            scored=scored,
            when_s=(STEP_S * torch.arange(self.past)).expand(len(rows), -1),
            rows=rows,
        )
