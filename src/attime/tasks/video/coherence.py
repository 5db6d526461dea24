r"""Does a clip hold together, and does it change: two scores of generated clips.

Coherence: points are followed from the first frame; a point is missing in a frame if it cannot be seen there and has not
gone on in the direction in which it had moved by half time. With m_i the share of points that are missing and
v_i = |m_{i+1} - m_i|, the loss is

    0.35 mean(m) / 0.937 + 0.25 std(v) / 0.900 + 0.15 (share of frames with v > 0.1) / 0.625
        + 0.15 (number of v > 0.1) / 20 + 0.10 max(v)

and the score its inverse. Change: the probability, among sentences that say that much changes and sentences that say that
little does, of the former among the likeliest five, as any model that compares clips with sentences finds them.

Source:  ChronoMagic-Bench, arXiv 2406.18522, CHScore and MTScore, and its public code; the numbers are those of the code.
Differs: the code gives a clip without any missing point, the best there is, the score 0. Here the loss is at least half of
         what one point missing in one frame adds to the first term, so that such a clip is better than any other and all
         scores are finite. Points come from the world's truth or from `trace` instead of a trained tracker.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attime.errors import AttimeError
from attime.streams.contract import readable

__all__ = ["CHANGING", "STILL", "Coherence", "Prompt", "Scorer", "change", "coherence", "read_prompts"]

Frames = NDArray[np.uint8]
Scorer = Callable[[Frames, Sequence[str]], ArrayLike]
"""From frames and sentences to one similarity each, such as a cosine, from -1 to 1."""

WEIGHTS = {"missing": 0.35, "variation": 0.25, "cut share": 0.15, "cuts": 0.15, "worst": 0.10}
LARGEST = {
    "missing": 0.9368749856948853,
    "variation": 0.8997353911399841,
    "cut share": 0.625,
    "cuts": 20.0,
    "worst": 1.0,
}
CUT = 0.1  # a frame after which the share of missing points has changed by more is a cut
CHANGING = (
    "a lot changes from the first picture to the last",
    "a slow process shown at great speed",
    "hours that pass within seconds",
    "at the end nothing looks as it did at the start",
    "a scene that transforms itself before our eyes",
)
STILL = (
    "hardly anything changes from the first picture to the last",
    "a short moment shown at its own speed",
    "seconds that pass as seconds",
    "at the end everything looks as it did at the start",
    "a scene that stays what it is",
)


@dataclass(frozen=True, kw_only=True)
class Coherence:
    """The five terms, before they are scaled and weighted, and what follows."""

    missing: float
    """Share of points that are missing, mean over frames."""
    variation: float
    """Deviation of its change from frame to frame."""
    cut_share: float
    """Share of frames that are cuts."""
    cuts: int
    worst: float
    """The largest change from one frame to the next."""
    least: float
    """Half of the least that one missing point adds to the loss of a clip of this many frames and points."""

    @property
    def loss(self) -> float:
        """The weighted sum of the scaled terms; 0 if no point is ever missing."""
        values = (self.missing, self.variation, self.cut_share, self.cuts, self.worst)
        return sum(
            weight * value / LARGEST[name] for (name, weight), value in zip(WEIGHTS.items(), values, strict=True)
        )

    @property
    def score(self) -> float:
        """The higher, the more coherent; finite, and best if no point is ever missing."""
        return 1 / max(self.loss, self.least)


def coherence(places: ArrayLike, visible: ArrayLike) -> Coherence:
    """Of points (time, points, 2), in any unit of length, and whether each can be seen (time, points)."""
    place, seen = np.asarray(places, np.float64), np.asarray(visible, bool)
    if place.ndim != 3 or place.shape[2] != 2 or seen.shape != place.shape[:2] or len(place) < 3 or not seen.shape[1]:
        raise AttimeError(
            f"coherence needs places (time >= 3, points >= 1, 2) and visible (time, points); "
            f"got {place.shape} and {seen.shape}."
        )
    moved = place - place[0]
    missing = ~seen & (np.einsum("tpc,pc->tp", moved, moved[len(place) // 2]) <= 0)
    missed = missing.mean(axis=1)
    steps = np.abs(np.diff(missed))
    return Coherence(
        missing=float(missed.mean()),
        variation=float(steps.std(ddof=1)),
        cut_share=float((steps > CUT).sum() / len(missed)),
        cuts=int((steps > CUT).sum()),
        worst=float(steps.max()),
        least=WEIGHTS["missing"] / LARGEST["missing"] / seen.size / 2,
    )


def change(
    frames: Frames,
    scorer: Scorer,
    *,
    changing: Sequence[str] = CHANGING,
    still: Sequence[str] = STILL,
    sharpness: float = 100.0,
    likeliest: int = 5,
) -> float:
    """The probability of the sentences in `changing` that are among the likeliest, 0 to 1.

    Probabilities are a softmax of `sharpness` times the similarity. To be compared with others' results it needs their
    scorer and their sentences.
    """
    sentences = [*changing, *still]
    found = np.asarray(scorer(frames, sentences), np.float64)
    if found.shape != (len(sentences),) or not 1 <= likeliest <= len(sentences) or not changing or not still:
        raise AttimeError(
            f"change needs sentences of both kinds, a number for each, and 1 <= likeliest <= {len(sentences)}; "
            f"got {len(changing)} and {len(still)} sentences, numbers {found.shape} and likeliest={likeliest}."
        )
    weight = np.exp(sharpness * (found - found.max()))
    best = np.argsort(-weight, kind="stable")[:likeliest]
    return float(weight[best[best < len(changing)]].sum() / weight.sum())


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What a clip is to show; the clip's file is named after `video`."""

    video: str
    text: str
    kind: str
    """Its subcategory."""
    field: str
    """Its main category."""


def read_prompts(path: str | Path) -> list[Prompt]:
    """The prompts of a ChronoMagic-Bench list: CSV with videoid, name, sub_category and main_category."""
    with readable(path, "read_prompts").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    wanted = ("videoid", "name", "sub_category", "main_category")
    if not rows or any(row.get(column) is None for row in rows for column in wanted):
        raise AttimeError(
            f"{path} needs rows with the columns {', '.join(wanted)}: check that it is a list of prompts."
        )
    return [
        Prompt(video=row["videoid"], text=row["name"], kind=row["sub_category"], field=row["main_category"])
        for row in rows
    ]
