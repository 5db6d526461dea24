"""Polling: is there a red ball? About things that are there, and as many that are not: who sees what is not there says yes.

Source:  POPE, arXiv 2305.10355, sec. 4.1 (yes-or-no polling of objects, absent ones drawn at random).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attime.streams.world.ask import questions
from attime.streams.world.paint import paint_many
from attime.streams.world.world import World

__all__ = ["Poll", "poll"]


@dataclass(frozen=True, kw_only=True)
class Poll:
    """Questions, one clip for each, and whether the thing is there."""

    frames: NDArray[np.uint8]
    """(questions, time, height, width, 3)"""
    texts: Sequence[str]
    there: NDArray[np.bool_]

    def rates(self, yes: ArrayLike) -> dict[str, float]:
        """Share of yes about what is there (recall) and about what is not (hallucination), and of right answers."""
        said = np.asarray(yes, dtype=bool)
        return {
            "recall": float(said[self.there].mean()),
            "hallucination": float(said[~self.there].mean()),
            "accuracy": float((said == self.there).mean()),
        }


def poll(world: World, *, shots: int, frames: int = 16, size: tuple[int, int] = (32, 32), seed: int = 0) -> Poll:
    """Two questions about each of so many shots of a world that its training does not reach, unless all colours are there."""
    chosen = [world.shot(seed * 100_003 + 50_000 + number) for number in range(shots)]
    asked = [questions(shot, kinds=("exists",), seed=seed + number) for number, shot in enumerate(chosen)]
    when = np.arange(frames) * world.shot_s / frames
    clips = paint_many(chosen, when, size=size, noise=world.noise, seed=seed)
    return Poll(
        frames=np.stack([clip for clip, found in zip(clips, asked, strict=True) for _ in found]),
        texts=[question.text for found in asked for question in found],
        there=np.array([question.answer == "yes" for found in asked for question in found]),
    )
