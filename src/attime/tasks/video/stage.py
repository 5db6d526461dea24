"""The clips that quizzes share, unless they are told otherwise: 16 frames of 32x32 pixels of four seconds of the world."""

from functools import partial

import numpy as np

from attime.streams.world import Shot, World, paint
from attime.tasks.quiz import Clip

__all__ = ["FRAMES", "HELD_OUT", "STAGE", "film"]

STAGE = World(
    name="stage",
    shot_s=4.0,
    seconds=4.0,
    things=(2, 3),
    events=(2, 4),
    kinds=("move", "hop", "appear", "vanish", "recolour"),
    grid_s=0.5,
    noise=0.03,
    backdrops=("plain",),
)
"""What the zoo's watcher was trained on, without its seeds."""
HELD_OUT = 2_000_000
"""The first seed of quizzes; the zoo's models are trained on seeds below a million."""
FRAMES, SIZE = 16, (32, 32)


def film(shot: Shot, *, noise: float = 0.0, frames: int = FRAMES, size: tuple[int, int] = SIZE, seed: int = 0) -> Clip:
    """The shot from its start to its end, not painted before somebody looks at it."""
    step = shot.seconds / frames
    when = shot.start_s + step * np.arange(frames)
    return Clip(partial(paint, shot, when, size=size, noise=noise, seed=seed), seconds_per_frame=step)
