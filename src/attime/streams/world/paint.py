"""Pixels of a scene: frames, the mask of every thing, and optical flow. Shapes are signed distances, so edges are smooth."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attime.errors import AttimeError
from attime.streams.world.scene import Shot, States, Thing, stack

__all__ = ["flow", "masks", "paint", "paint_many", "top_map"]

Pixels = NDArray[np.float32]
CLUTTER = (0.42, 0.42, 0.42)


def paint(
    shot: Shot, when_s: ArrayLike, *, size: tuple[int, int] = (64, 64), noise: float = 0.0, seed: int = 0
) -> NDArray[np.uint8]:
    """Frames (time, height, width, 3) of a shot at these moments; `noise` is the deviation of a pixel, of 0 to 1.

    The noise of a frame depends on the seed and its moment alone.
    """
    when = np.asarray(when_s, np.float64)
    frames = _composed(shot.at(when), [thing.shape for thing in shot.things], shot, size)
    if noise:
        for frame, tick in zip(frames, np.rint(1000 * when).astype(int).tolist(), strict=True):
            frame += noise * np.random.default_rng([seed, tick]).standard_normal(frame.shape, np.float32)
    return _bytes(frames)


def paint_many(
    shots: Sequence[Shot], when_s: ArrayLike, *, size: tuple[int, int] = (32, 32), noise: float = 0.0, seed: int = 0
) -> NDArray[np.uint8]:
    """Frames (shots, time, height, width, 3) of many shots at moments counted from each one's own start: for training."""
    when = np.asarray(when_s, np.float64)
    states = stack([shot.at(shot.start_s + when) for shot in shots])
    shapes = [[thing.shape for thing in shot.things] for shot in shots]
    plain = all(shot.backdrop == "plain" and not shot.clutter for shot in shots)
    if not plain:
        whole = np.concatenate(
            [
                _composed(shot.at(shot.start_s + when), kinds, shot, size)
                for shot, kinds in zip(shots, shapes, strict=True)
            ]
        )
    else:
        canvas = np.empty((len(shots), len(when), *size, 3), np.float32)
        canvas[:] = np.array([shot.shade for shot in shots], np.float32)[:, None, None, None, None]
        whole = canvas.reshape(-1, *size, 3)
        for who in range(states.alpha.shape[1]):
            for shape in sorted({kinds[who] for kinds in shapes if who < len(kinds)}):
                rows = np.repeat([who < len(kinds) and kinds[who] == shape for kinds in shapes], len(when))
                _lay(whole, states, who, shape, rows=np.flatnonzero(rows & (states.alpha[:, who] > 0)))
    if noise:
        whole += noise * np.random.default_rng(seed).standard_normal(whole.shape, np.float32)
    return _bytes(whole).reshape(len(shots), len(when), *size, 3)


def masks(shot: Shot, when_s: ArrayLike, *, size: tuple[int, int] = (64, 64)) -> NDArray[np.int8]:
    """(time, height, width): the number of the thing that is seen at each pixel, -1 for the backdrop."""
    states = shot.at(when_s)
    seen = np.full((len(states.camera), *size), -1, np.int8)
    for who, thing in enumerate(shot.things):
        patch = _patch(states, who, thing.shape, size, np.flatnonzero(states.alpha[:, who] > 0.5))
        inside = patch.cover > 0.5
        seen[patch.frame[inside], patch.row[inside], patch.column[inside]] = who
    return seen


def flow(shot: Shot, when_s: ArrayLike, *, size: tuple[int, int] = (64, 64)) -> Pixels:
    """(time - 1, height, width, 2): by how many pixels (x, y) what is seen at each pixel has moved in the next frame.

    Rigid motion of centres and of the camera; turning and growing are left out.
    """
    states, seen = shot.at(when_s), masks(shot, when_s, size=size)[:-1]
    scale = np.array([size[1], size[0]])
    camera = -np.diff(states.camera, axis=0)
    moved = np.concatenate([np.diff(states.place, axis=0), np.zeros((len(camera), 1, 2))], axis=1) + camera[:, None]
    return (moved * scale)[np.arange(len(seen))[:, None, None], seen].astype(np.float32)


def top_map(shot: Shot, when_s: ArrayLike, *, cells: int = 16) -> NDArray[np.int8]:
    """(time, cells, cells): the stage seen as a map that the camera does not move: which thing's centre is in each cell."""
    states = shot.at(when_s)
    found = np.full((len(states.camera), cells, cells), -1, np.int8)
    for who in range(len(shot.things)):
        there = np.flatnonzero(states.alpha[:, who] > 0.5)
        column, row = np.clip((states.place[there, who] * cells).astype(int), 0, cells - 1).T
        found[there, row, column] = who
    return found


def _composed(states: States, shapes: Sequence[str], shot: Shot, size: tuple[int, int]) -> Pixels:
    """Frames as numbers from 0 to 1, back to front."""
    frames = _backdrop(shot, states.camera, size)
    if shot.clutter:
        still = _still(shot.clutter, states.camera)
        for who, thing in enumerate(shot.clutter):
            _lay(frames, still, who, thing.shape, rows=np.arange(len(frames)))
    for who, shape in enumerate(shapes):
        _lay(frames, states, who, shape, rows=np.flatnonzero(states.alpha[:, who] > 0))
    return frames


def _backdrop(shot: Shot, camera: NDArray[np.float64], size: tuple[int, int]) -> Pixels:
    if shot.backdrop not in PATTERNS:
        raise AttimeError(f"a backdrop is one of {', '.join(PATTERNS)}; got {shot.backdrop!r}.")
    frames = np.full((len(camera), *size, 3), shot.shade, np.float32)
    if shot.backdrop != "plain":
        still = not camera.any()
        view = camera[:1] if still else camera
        x = (np.arange(size[1]) + 0.5) / size[1] + view[:, :1]
        y = (np.arange(size[0]) + 0.5) / size[0] + view[:, 1:]
        frames += np.float32(0.1) * PATTERNS[shot.backdrop](x[:, None, :], y[:, :, None])[..., None].astype(np.float32)
    return frames


def _lay(frames: Pixels, states: States, who: int, shape: str, *, rows: NDArray[np.int64]) -> None:
    """Paint one thing over the frames `rows`, in place."""
    patch = _patch(states, who, shape, frames.shape[1:3], rows)
    alpha = (patch.cover * states.alpha[rows, who, None, None])[..., None].astype(np.float32)
    below = frames[patch.frame, patch.row, patch.column]
    colour = states.colour[rows, who, None, None].astype(np.float32)
    frames[patch.frame, patch.row, patch.column] = below + alpha * (colour - below)


@dataclass(frozen=True)
class _Patch:
    """Pixels around one thing in some frames, all (frames, rows, columns)."""

    frame: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    cover: NDArray[np.float64]
    """How much of the pixel the thing covers, 0 to 1."""


def _patch(states: States, who: int, shape: str, size: tuple[int, int], rows: NDArray[np.int64]) -> _Patch:
    """The window of pixels that holds the thing in every one of the frames `rows`; at the edge it is moved inwards."""
    height, width = size
    scale = np.array([width, height])
    centre = (states.place[rows, who] - states.camera[rows]) * scale
    reach = states.radius[rows, who].max(initial=0) * 1.5 * max(size) + 1
    tall, wide = (min(extent, int(np.ceil(2 * reach)) + 1) for extent in size)
    top = np.clip(np.floor(centre[:, 1] - tall / 2).astype(int), 0, height - tall)
    left = np.clip(np.floor(centre[:, 0] - wide / 2).astype(int), 0, width - wide)
    row = top[:, None] + np.arange(tall)
    column = left[:, None] + np.arange(wide)
    unit = states.radius[rows, who][:, None]
    y = ((row + 0.5 - centre[:, 1:]) / height / unit)[:, :, None]
    x = ((column + 0.5 - centre[:, :1]) / width / unit)[:, None, :]
    turn = 2 * np.pi * states.angle[rows, who][:, None, None]
    if turn.any():
        x, y = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    distance = DISTANCE[shape](x, y) * (unit[..., None] * min(size))
    return _Patch(
        *np.broadcast_arrays(rows[:, None, None], row[:, :, None], column[:, None, :], np.clip(0.5 - distance, 0, 1))
    )


def _still(things: Sequence[Thing], camera: NDArray[np.float64]) -> States:
    """The states of things that never do anything, all of one grey."""
    time, count = len(camera), len(things)
    grey = np.broadcast_to(np.asarray(CLUTTER), (time, count, 3))
    place = np.broadcast_to(np.array([thing.place for thing in things]), (time, count, 2))
    radius = np.broadcast_to(np.array([thing.radius for thing in things]), (time, count))
    nothing = np.zeros((time, count))
    return States(place=place, radius=radius, angle=nothing, colour=grey, alpha=nothing + 1, camera=camera)


def _bytes(frames: Pixels) -> NDArray[np.uint8]:
    return (np.clip(frames, 0, 1) * 255 + 0.5).astype(np.uint8)


def _circle(x: Any, y: Any) -> Any:
    return np.hypot(x, y) - 1


def _square(x: Any, y: Any) -> Any:
    return np.maximum(abs(x), abs(y)) - 0.86


def _triangle(x: Any, y: Any) -> Any:
    return np.maximum(np.sqrt(3) / 2 * abs(x) - 0.5 * y - 0.55, y - 0.6)


def _star(x: Any, y: Any) -> Any:
    """Five points, one of them up: ten straight edges between a circle of radius 1.15 and one of 0.45."""
    angle = (
        abs((np.arctan2(x, -y) * 5 / (2 * np.pi) + 0.5) % 1 - 0.5) * 2 * np.pi / 5
    )  # from the nearest point, 0 to 36 degrees
    along, across = np.hypot(x, y) * np.cos(angle), np.hypot(x, y) * np.sin(angle)
    inner_x, inner_y = 0.45 * np.cos(np.pi / 5), 0.45 * np.sin(np.pi / 5)
    length = np.hypot(1.15 - inner_x, inner_y)
    return ((along - 1.15) * inner_y + across * (1.15 - inner_x)) / length


def _cross(x: Any, y: Any) -> Any:
    thin, long = np.minimum(abs(x), abs(y)), np.maximum(abs(x), abs(y))
    return np.maximum(thin - 0.32, long - 1)


def _ring(x: Any, y: Any) -> Any:
    return abs(np.hypot(x, y) - 0.74) - 0.26


DISTANCE: dict[str, Callable[[Any, Any], Any]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
}
"""Signed distance to the edge of a shape of radius 1 around the origin, negative inside."""

PATTERNS: dict[str, Callable[[Any, Any], Any]] = {
    "plain": lambda x, y: 0 * (x + y),
    "checker": lambda x, y: np.where((np.floor(6 * x) + np.floor(6 * y)) % 2 == 0, 1.0, 0.0),
    "stripes": lambda x, y: 0.5 + 0.5 * np.sin(2 * np.pi * (5 * x + 2 * y)),
    "dots": lambda x, y: np.where((5 * x % 1 - 0.5) ** 2 + (5 * y % 1 - 0.5) ** 2 < 0.06, 1.0, 0.0),
}
"""Brightness, 0 to 1, of every place (x, y) of the stage and beyond it."""
