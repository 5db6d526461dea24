r"""Frames as clusters: a weighted k-means that goes on for ever, and for its largest clusters a real frame in fine.

With one centroid too many, Lloyd's rounds over the centroids with their weights, starting from all but one of them:

    label_i = argmin_j |x_i - c_j|^2        c_j = sum_{label_i = j} w_i x_i / w'_j        w'_j = sum_{label_i = j} w_i

Source:  Flash-VStream (temporal and retrieved memory), arXiv 2406.08085, sec. 3.2.
Names:   `count` and `cells` are their temporal memory's length and side, `shown_fine` and `fine` the retrieved memory's.
Cost:    per frame some rounds (10 at most) of distances among `count` + 1 centroids.
Differs: rounds start from all but the centroid that costs least to give up (Ward: w v / (w + v) |x - y|^2), not from a
         random choice. Every cluster holds the frame nearest to its centroid among those that its parts held, so that fine
         frames are bounded too; the paper keeps all frames' features to look in, and the released code looks in them with
         the places of centroids. Centroids are float32 at least.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from attime.attention.state import state_dtype
from attime.errors import AttimeError
from attime.memory.banks.coarser import area, coarser
from attime.memory.banks.contract import Entry, FrameBank, Kept, Parts
from attime.memory.contract import Traits

__all__ = ["FrameClusters"]


@final
@dataclass(frozen=True, kw_only=True)
class FrameClusters(FrameBank):
    """`count` centroids, and the fine frames of the `shown_fine` heaviest (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(acts=False, frames=True, merges=True)
    count: int = 25
    cells: int = 4
    shown_fine: int = 3
    fine: int = 8
    rounds: int = 10

    def __post_init__(self) -> None:
        if min(self.count, self.cells, self.fine, self.rounds) < 1 or not 0 <= self.shown_fine <= self.count:
            raise AttimeError(
                f"FrameClusters needs count, cells, fine, rounds >= 1 and 0 <= shown_fine <= count; got {self}."
            )

    def take(self, parts: Parts, new: Entry) -> Parts:
        small = coarser(new.frame, self.cells)
        small = small.to(state_dtype(small.dtype))
        means = [*parts.get("means", ()), replace(new, frame=small)]
        real = [*parts.get("real", ())]
        if self.shown_fine:
            real.append(replace(new, frame=coarser(new.frame, self.fine), weight=0.0, key=small.flatten()))
        if len(means) > self.count:
            means, real = self._fewer(means, real)
        return {"means": tuple(means), "real": tuple(real)}

    def _fewer(self, means: list[Entry], real: list[Entry]) -> tuple[list[Entry], list[Entry]]:
        """One centroid less, or some: a cluster that no centroid chooses is gone."""
        points = torch.stack([entry.frame.flatten() for entry in means])
        weights = torch.tensor([entry.weight for entry in means], dtype=points.dtype, device=points.device)
        labels, centres = _lloyd(points, weights, self.rounds)
        made = []
        for label in sorted(set(labels)):
            own = [place for place, each in enumerate(labels) if each == label]
            centre = centres[label]
            weight = sum(means[place].weight for place in own)
            when_s = sum(means[place].weight * means[place].when_s for place in own) / weight
            mean = Entry(
                frame=centre.view_as(means[0].frame).clone(), when_s=when_s, number=means[own[0]].number, weight=weight
            )
            nearest = min((real[place] for place in own if real), key=lambda entry: _far(entry, centre), default=None)
            made.append((mean, nearest))
        made.sort(key=lambda pair: (pair[0].when_s, pair[0].number))
        return [mean for mean, _ in made], [nearest for _, nearest in made if nearest is not None]

    def shown(self, kept: Kept) -> Iterable[Entry]:
        means, real = kept.parts.get("means", ()), kept.parts.get("real", ())
        heavy = sorted(range(len(real)), key=lambda place: (-means[place].weight, place))
        return [*means, *(real[place] for place in heavy[: self.shown_fine])]

    def budget(self, height: int, width: int) -> int:
        return self.count * area(height, width, self.cells) + self.shown_fine * area(height, width, self.fine)

    @classmethod
    def examples(cls) -> Sequence["FrameClusters"]:
        return [cls(count=5, cells=2, shown_fine=2, fine=3), cls(count=3, cells=1, shown_fine=0, fine=1, rounds=2)]


def _lloyd(
    points: Float[Tensor, "points features"], weights: Float[Tensor, " points"], rounds: int
) -> tuple[list[int], Float[Tensor, "centres features"]]:
    """Labels, and means by label, of k-means with one centre less than there are points."""
    given = _given_up(points, weights)
    centres = torch.cat([points[:given], points[given + 1 :]])
    labels: list[int] = []
    for _ in range(rounds):
        before, nearest = labels, torch.cdist(points, centres).argmin(dim=1)
        labels = nearest.tolist()
        if labels == before:
            break
        chosen = torch.nn.functional.one_hot(nearest, len(centres)).to(points.dtype).T * weights
        mass = chosen.sum(1, keepdim=True)
        centres = torch.where(mass > 0, chosen @ points / mass.clamp(min=torch.finfo(mass.dtype).tiny), centres)
    return labels, centres


def _given_up(points: Tensor, weights: Tensor) -> int:
    """The lighter of the two points that cost least to join; the later of equals."""
    cost = torch.cdist(points, points).square() * (weights[:, None] * weights / (weights[:, None] + weights))
    cost = cost.fill_diagonal_(torch.inf)
    one, two = divmod(int(cost.argmin()), len(points))
    one, two = min(one, two), max(one, two)
    return one if float(weights[one]) < float(weights[two]) else two


def _far(entry: Entry, centre: Tensor) -> float:
    assert entry.key is not None
    return float((entry.key - centre).square().sum())
