"""Video: the pictures of a file and when each is shown, decoded piece by piece."""

from collections.abc import Iterator
from fractions import Fraction
from functools import cached_property
from itertools import count, takewhile
from typing import Any, ClassVar, NamedTuple, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attime.errors import AttimeError
from attime.streams.recording import Recording, pyav

__all__ = ["Video"]

_NEAR_S = 1e-6  # times closer than this are the same time
_SEEK_S = 10.0  # pictures further ahead are sought, nearer ones decoded up to
_JUMP_S = 1.0  # a clock that goes back by more has begun anew


class _Shown(NamedTuple):
    when_s: float
    end_s: float
    frame: Any


@final
class Video(Recording):
    """The pictures of a file, uint8 arrays (height, width, 3) of red, green and blue, turned as the file asks.

    Times rise from picture to picture: a picture without a time follows the one before by a period of the mean rate,
    one whose time does not rise by a tick of the file's clock, and a clock that begins anew goes on (seeking follows
    the clock as it is). Where a constant rate was rounded to milliseconds, as in Matroska, times are those of the rate.
    Pixels are those of the file: those that are not square stay so, and transparent ones have the colour beneath.
    """

    kind: ClassVar[str] = "video"

    def _look(self, found: Any) -> None:
        mean = found.average_rate or found.guessed_rate or Fraction(25)
        steady = found.average_rate is not None and found.average_rate == found.base_rate
        if not steady and found.frames and found.duration:
            mean = found.frames / self.seconds(found.duration)
        self.rate = float(mean)
        """Pictures in a second, on average; 25 where the file says nothing."""
        self._period = Fraction(1 / mean).limit_denominator(1_000_000)
        self._grid = mean if steady and self._tick > Fraction(1, 5000) else None

    @property
    def about(self) -> str:
        """What it holds, in a few words and numbers."""
        height, width = self.size
        return (
            f"{self.name}: {self.duration_s:,.2f} s of {width}x{height} at {self.rate:.5g} frames/s, {self.track.codec}"
        )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of its pictures, as they are shown."""
        height, width, turns = self._shape
        return (width, height) if turns % 2 else (height, width)

    def frames(
        self,
        start_s: float = 0.0,
        stop_s: float | None = None,
        *,
        fps: float | None = None,
        size: tuple[int, int] | None = None,
        chunk: int = 16,
    ) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float64]]]:
        """Chunks of up to `chunk` pictures (time, height, width, 3) and their times in seconds (time,).

        These are the pictures that appear at or after `start_s` and before `stop_s`. With `fps` they are the pictures
        on screen at `start_s`, `start_s` + 1 / `fps` and so on, whatever the rates in the file; before its first picture
        that is the first. With `size`, height and width, they are scaled while they are decoded.
        """
        self._span(start_s, stop_s)
        if fps is not None and not 0 < fps < float("inf"):
            raise AttimeError(f"Video.frames needs fps > 0; got fps={fps}.")
        if chunk < 1:
            raise AttimeError(f"Video.frames needs chunks of at least one picture; got chunk={chunk}.")
        stop = float("inf") if stop_s is None else stop_s - _NEAR_S
        if fps is None:
            after = (shown for shown in self._timed(start_s) if shown.when_s >= start_s - _NEAR_S)
            pairs = ((shown.when_s, shown.frame) for shown in takewhile(lambda shown: shown.when_s < stop, after))
        else:
            ticks = takewhile(lambda tick: tick < stop, (start_s + number / fps for number in count()))
            pairs = self._on_screen(ticks, to_end=True)
        return self._chunks(pairs, self._fitting(size), chunk)

    def read(
        self,
        start_s: float = 0.0,
        stop_s: float | None = None,
        *,
        fps: float | None = None,
        size: tuple[int, int] | None = None,
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """What `frames` gives, in one array each; for spans that fit in memory."""
        chunks = list(self.frames(start_s, stop_s, fps=fps, size=size))
        if not chunks:
            return np.empty((0, *self._fitting(size), 3), np.uint8), np.empty(0)
        return np.concatenate([frames for frames, _ in chunks]), np.concatenate([when_s for _, when_s in chunks])

    def at(self, when_s: ArrayLike, *, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """The pictures on screen at these times in seconds, in any order: (time, height, width, 3)."""
        times = np.atleast_1d(np.asarray(when_s, np.float64))
        if times.ndim != 1 or not ((times >= 0) & (times <= self.duration_s + _NEAR_S)).all():
            raise AttimeError(
                f"Video.at needs times from 0 to {self.duration_s:.6g} s in one row; got {when_s!r:.200}."
            )
        height, width = self._fitting(size)
        out, order = np.empty((len(times), height, width, 3), np.uint8), np.argsort(times, kind="stable")
        done = 0
        for frames, _ in self._chunks(self._on_screen(iter(times[order].tolist())), (height, width), 16):
            out[order[done : done + len(frames)]] = frames
            done += len(frames)
        if done < len(out):
            raise AttimeError(f"{self.path.name} has no picture that can be decoded for {times[order[done]]:.6g} s.")
        return out

    @cached_property
    def _shape(self) -> tuple[int, int, int]:
        """Height and width of its first picture as stored, and the quarter turns to show it."""
        first = next(self._frames(0.0), None)
        if first is None:
            raise AttimeError(f"{self.path.name} has no picture that can be decoded.")
        return first.height, first.width, round(first.rotation / 90) % 4

    def _fitting(self, size: tuple[int, int] | None) -> tuple[int, int]:
        sides = np.atleast_1d(self.size if size is None else size).tolist()
        if len(sides) != 2 or min(sides) < 1:
            raise AttimeError(f"Video needs size as (height, width), both at least 1; got {size}.")
        return int(sides[0]), int(sides[1])

    def _timed(self, start_s: float) -> Iterator[_Shown]:
        """Pictures with times that rise, from the one that is on screen at `start_s`, or an earlier one."""
        period, last, shift = 1 / self.rate, None, 0.0
        for frame in self._frames(start_s):
            stamp = self._stamp(frame)
            follows = 0.0 if last is None else last + period
            when = follows if stamp is None else self._when_s(stamp) + shift
            if last is not None and when <= last:
                again = last - when > _JUMP_S
                shift += follows - when if again else 0.0
                when = follows if again else last + min(float(self._tick), period)
            length = float(self.seconds(frame.duration)) if frame.duration else period
            yield _Shown(when, when + length, frame)
            last = when

    def _when_s(self, stamp: int) -> float:
        exact = self.seconds(stamp) - self._origin
        if self._grid is not None:
            steps = (exact - self._begin_s) * self._grid
            even = round(steps) / self._grid + self._begin_s
            if abs(even - exact) <= self._tick / 2:
                return float(even)
        return float(exact)

    def _on_screen(self, times: Iterator[float], *, to_end: bool = False) -> Iterator[tuple[float, Any]]:
        """For times that rise, the last picture that appeared by then; `to_end` stops when the last one's time is over."""
        near, source, now, after = max(_NEAR_S, float(self._tick) / 2), iter(()), None, None
        for time in times:
            if now is None or (after is not None and time > after.when_s + _SEEK_S):
                source = self._timed(time)
                now, after = next(source, None), next(source, None)
            while after is not None and after.when_s <= time + near:
                now, after = after, next(source, None)
            if now is None or (to_end and after is None and time >= now.end_s - near):
                return
            yield time, now.frame

    def _chunks(self, pairs: Iterator[tuple[float, Any]], size: tuple[int, int], chunk: int) -> Iterator[Any]:
        turns, convert = self._shape[2], pyav().video.reformatter.VideoReformatter()
        height, width = size[::-1] if turns % 2 else size
        filled, before = 0, None
        frames, times = np.empty((0, *size, 3), np.uint8), np.empty(0)
        try:
            for time, frame in pairs:
                if filled == len(times):
                    if filled:
                        yield frames, times
                    frames, times, filled = np.empty((chunk, *size, 3), np.uint8), np.empty(chunk), 0
                if filled and frame is before:
                    frames[filled] = frames[filled - 1]
                else:
                    plane = convert.reformat(frame, width, height, "rgb24", threads=1).planes[0]
                    rows = np.frombuffer(plane, np.uint8).reshape(height, plane.line_size)[:, : 3 * width]
                    frames[filled] = np.rot90(rows.reshape(height, width, 3), turns)
                times[filled], before = time, frame
                filled += 1
        except AttimeError:
            if filled:
                yield frames[:filled], times[:filled]
            raise
        if filled:
            yield frames[:filled], times[:filled]
