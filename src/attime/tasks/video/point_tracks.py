"""Points of the first frame followed through a clip: exactly, where the world says how it was made, or by their looks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attime.errors import AttimeError
from attime.streams.world import Shot, masks

__all__ = ["trace", "true_tracks"]

Places = NDArray[np.float64]
Seen = NDArray[np.bool_]


def true_tracks(
    shot: Shot,
    when_s: ArrayLike,
    *,
    shown: Sequence[Shot | None] | None = None,
    cells: int = 30,
    size: tuple[int, int] = (90, 90),
) -> tuple[Places, Seen]:
    """Where the points of a grid of the first frame are at these moments, and whether they can be seen there.

    Returns places (time, points, 2) in stage widths and heights and visible (time, points). Points at the edge of
    something are left out. `shown` says what each frame shows instead of the shot: the shot with something missing or
    displaced, or None for another scene; a point is then visible where what it belongs to is still at its place. `size`
    is the grid of pixels on which is decided what covers what.
    """
    when = np.asarray(when_s, np.float64)
    shown = [shot] * len(when) if shown is None else shown
    if len(shown) != len(when) or len(when) < 2 or cells < 1:
        raise AttimeError(
            f"true_tracks needs two moments or more, one entry of shown for each, and cells >= 1; "
            f"got {len(when)} moments, {len(shown)} entries, cells={cells}."
        )
    ticks = (np.arange(cells) + 0.5) / cells
    start = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    around = _around(masks(shot, when[:1], size=size)[0], start)
    inside = (around == around[:, :1]).all(axis=1)
    start, owner = start[inside], around[inside, 0]
    place = _moved(shot, when, start, owner)
    visible = np.zeros(place.shape[:2], bool)
    for row, scene in enumerate(shown):
        if scene is not None:
            cover = masks(scene, when[row : row + 1], size=size)[0]
            within = ((place[row] >= 0) & (place[row] < 1)).all(axis=1)
            visible[row] = within & (_around(cover, place[row]) == owner[:, None]).any(axis=1)
    return place, visible


def trace(frames: NDArray[np.uint8], *, cells: int = 16, reach: int = 3, alike: float = 0.12) -> tuple[Places, Seen]:
    """The same from pixels alone (time, height, width, 3): each point goes where its surroundings look most as at first.

    It is looked for within `reach` pixels of where it was last, and is visible where the surroundings, of 5 by 5 pixels,
    differ by less than `alike` of full brightness (root mean square). Places are in stage widths and heights.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or len(frames) < 2:
        raise AttimeError(f"trace needs frames (time >= 2, height, width, 3); got {frames.shape}.")
    height, width = frames.shape[1:3]
    padded = np.pad(frames / np.float32(255), ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    near = np.arange(5)
    row, column = (
        each.ravel()
        for each in np.meshgrid(
            *(((np.arange(cells) + 0.5) / cells * extent).astype(int) for extent in (height, width))
        )
    )
    steps = np.array(
        sorted(
            ((y, x) for y in range(-reach, reach + 1) for x in range(-reach, reach + 1)),
            key=lambda at: at[0] ** 2 + at[1] ** 2,
        )
    )

    def looks(picture: NDArray[np.float32], y: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[np.float32]:
        return picture[y[..., None, None] + near[:, None], x[..., None, None] + near]

    wanted = looks(padded[0], row, column)
    place, visible = np.empty((len(frames), len(row), 2)), np.empty((len(frames), len(row)), bool)
    for number, picture in enumerate(padded):
        y = np.clip(row + steps[:, :1], 0, height - 1)
        x = np.clip(column + steps[:, 1:], 0, width - 1)
        differ = np.sqrt(((looks(picture, y, x) - wanted) ** 2).mean(axis=(-3, -2, -1)))
        best = np.round(differ, 4).argmin(axis=0)
        points = np.arange(len(row))
        visible[number] = differ[best, points] < alike
        row = np.where(visible[number], y[best, points], row)
        column = np.where(visible[number], x[best, points], column)
        place[number] = np.stack([(column + 0.5) / width, (row + 0.5) / height], axis=1)
    return place, visible


def _around(cover: NDArray[np.int8], place: Places) -> NDArray[np.int8]:
    """(points, 9): what covers the pixel at each place, and its neighbours."""
    height, width = cover.shape
    step = np.array([(0, 0), (-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)])
    column = np.clip((place[:, :1] * width).astype(int) + step[:, 0], 0, width - 1)
    row = np.clip((place[:, 1:] * height).astype(int) + step[:, 1], 0, height - 1)
    return cover[row, column]


def _moved(shot: Shot, when: NDArray[np.float64], start: Places, owner: NDArray[np.int8]) -> Places:
    """Where points that belong to things (or to the backdrop, -1) go with them."""
    states = shot.at(when)
    place = np.broadcast_to(start, (len(when), *start.shape)) - (states.camera - states.camera[:1])[:, None]
    for who in range(len(shot.things)):
        mine = owner == who
        centre = states.place[:, who] - states.camera
        offset = start[mine] - centre[0]
        turn = 2 * np.pi * (states.angle[:, who] - states.angle[0, who])
        grown = states.radius[:, who] / states.radius[0, who]
        x = grown[:, None] * (np.cos(turn)[:, None] * offset[:, 0] - np.sin(turn)[:, None] * offset[:, 1])
        y = grown[:, None] * (np.sin(turn)[:, None] * offset[:, 0] + np.cos(turn)[:, None] * offset[:, 1])
        place[:, mine] = centre[:, None] + np.stack([x, y], axis=-1)
    return place
