"""The world's own measurement of a clip: where the one thing in it is, what it looks like and how it moves, from pixels alone.

It needs a plain backdrop and one thing, and nothing of what was asked or painted: it judges rendered and generated clips alike.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attime.errors import AttimeError
from attime.streams.world.paint import DISTANCE
from attime.streams.world.scene import COLOURS, WAYS

__all__ = ["STILL", "Motion", "follow"]

STILL = 0.06
"""Less than this many stage widths from the first frame to the last is no motion."""
FAINT, FULL = 0.08, 0.8  # cover below which a pixel is backdrop; share of the strongest contrast that is wholly covered

Numbers = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Motion:
    """What was measured, one row per clip."""

    path: Numbers
    """(batch, time, 2): the centre (x, y) of what is covered, in pixels; the centre of the picture where there is nothing."""
    displacement: Numbers
    """(batch, 2): from the first frame to the last along the straight line that fits best, in pixels."""
    direction: tuple[str, ...]
    """left, right, up, down or still."""
    speed: Numbers
    """(batch,): stage widths per frame along that line."""
    jitter: Numbers
    """(batch,): root mean square distance from that line, in pixels."""
    area: Numbers
    """(batch,): covered pixels, mean over frames."""
    colour: tuple[str, ...]
    """The nearest colour of the world."""
    shape: tuple[str, ...]
    """The shape of the world that, laid where the thing is and as large, leaves the least difference."""

    @property
    def distance(self) -> Numbers:
        """(batch,): the length of `displacement`, in pixels."""
        return np.hypot(*self.displacement.T)


def follow(clips: ArrayLike) -> Motion:
    """Measure clips (batch, time, height, width, 3), of bytes or of numbers from 0 to 1."""
    clips = np.asarray(clips)
    if clips.ndim != 5 or clips.shape[-1] != 3 or clips.shape[1] < 2:
        raise AttimeError(
            f"follow needs clips (batch, time >= 2, height, width, 3); got {'x'.join(map(str, clips.shape))}."
        )
    pixels = clips / 255.0 if clips.dtype == np.uint8 else clips.astype(np.float64)
    backdrop = np.median(pixels, axis=(1, 2, 3))
    contrast = pixels - backdrop[:, None, None, None]
    strength = np.linalg.norm(contrast, axis=-1)
    whole = strength >= FULL * strength.max(axis=(1, 2, 3), keepdims=True)
    tint = np.einsum("btyxc,btyx->bc", contrast, whole) / whole.sum(axis=(1, 2, 3))[:, None]
    size = np.maximum((tint**2).sum(axis=1), 1e-3)
    cover = np.clip(np.einsum("btyxc,bc->btyx", contrast, tint) / size[:, None, None, None], 0, 1)
    cover[cover < FAINT] = 0
    path = _centres(cover)
    slope, jitter = _line(path)
    width = np.array([pixels.shape[3], pixels.shape[2]])
    moved = slope * (path.shape[1] - 1)
    names, tones = list(COLOURS), np.array(list(COLOURS.values()))
    nearest = np.linalg.norm((backdrop + tint)[:, None] - tones, axis=-1).argmin(axis=1)
    return Motion(
        path=path,
        displacement=moved,
        direction=tuple(_way(row) for row in moved / width),
        speed=np.linalg.norm(slope / width, axis=1),
        jitter=jitter,
        area=cover.sum(axis=(2, 3)).mean(axis=1),
        colour=tuple(names[number] for number in nearest),
        shape=_shapes(cover, path),
    )


def _centres(cover: Numbers) -> Numbers:
    """(batch, time, 2) in pixels, pixel k being from k to k + 1."""
    height, width = cover.shape[2:]
    mass = cover.sum(axis=(2, 3))
    x = cover.sum(axis=2) @ (np.arange(width) + 0.5)
    y = cover.sum(axis=3) @ (np.arange(height) + 0.5)
    seen = mass > 0.5
    safe = np.where(seen, mass, 1.0)
    return np.stack([np.where(seen, x / safe, width / 2), np.where(seen, y / safe, height / 2)], axis=-1)


def _line(path: Numbers) -> tuple[Numbers, Numbers]:
    """Pixels per frame (batch, 2) of the best straight line, and how far the path strays from it (batch,)."""
    time = np.arange(path.shape[1]) - (path.shape[1] - 1) / 2
    middle = path.mean(axis=1, keepdims=True)
    slope = np.einsum("t,btc->bc", time, path - middle) / (time**2).sum()
    stray = path - middle - time[None, :, None] * slope[:, None]
    return slope, np.sqrt((stray**2).sum(axis=-1).mean(axis=1))


def _way(moved: Numbers) -> str:
    """The direction that a displacement in stage widths is nearest to."""
    if np.hypot(*moved) < STILL:
        return "still"
    return max(WAYS, key=lambda way: float(np.dot(moved, WAYS[way])))


def _shapes(cover: Numbers, path: Numbers) -> tuple[str, ...]:
    """Lay every shape of the same area over the same centre; the one that differs least."""
    height, width = cover.shape[2:]
    area = np.maximum(cover.sum(axis=(2, 3)), 0.5)[:, :, None, None]
    errors = []
    for shape in DISTANCE:
        full, (off_x, off_y) = _unit(shape)
        radius = np.sqrt(area / full)
        x = (np.arange(width) + 0.5 - path[:, :, None, None, 0]) / radius + off_x
        y = (np.arange(height)[:, None] + 0.5 - path[:, :, None, None, 1]) / radius + off_y
        laid = np.clip(0.5 - DISTANCE[shape](x, y) * radius, 0, 1)
        errors.append(((laid - cover) ** 2).sum(axis=(1, 2, 3)))
    return tuple(list(DISTANCE)[number] for number in np.argmin(errors, axis=0))


@cache
def _unit(shape: str) -> tuple[float, tuple[float, float]]:
    """Area and centre of mass of a shape of radius 1."""
    ticks = (np.arange(600) + 0.5) / 200 - 1.5
    inside = DISTANCE[shape](ticks[None, :], ticks[:, None]) < 0
    share = inside.sum()
    return float(share / 200**2), (float(inside.sum(axis=0) @ ticks / share), float(inside.sum(axis=1) @ ticks / share))
