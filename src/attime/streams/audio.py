"""Audio: the sound of a file, or of a video's stream of sound, decoded piece by piece, exact to the sample."""

from collections.abc import Iterator
from functools import cached_property
from itertools import chain, islice
from math import gcd
from typing import Any, ClassVar, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from attime.errors import AttimeError
from attime.streams.recording import Recording, pyav

__all__ = ["Audio"]

Sound = NDArray[np.float32]

_BEFORE_S = 1.0  # decoders of sound need some of what comes before to be exact
_GAP_S = 0.04  # stamps further from the count of samples are a gap or an overlap, nearer ones are rounding
_BLOCK = 8192


class _Head(NamedTuple):
    rate: int
    layout: str
    channels: int
    second: int
    size: int


@final
class Audio(Recording):
    """The sound of a file, float32 from -1 to 1, (time, channels), or (time,) for one channel.

    Sample i of the file is at i / rate seconds: silence stands where the file has no sound, before it begins too, and
    what an encoder added before and behind is gone where the file says so.
    """

    kind: ClassVar[str] = "audio"

    def _look(self, found: Any) -> None:
        in_samples = found.duration is not None and self._tick * (found.codec_context.sample_rate or 0) <= 1
        self._stated = found.duration if in_samples and "mp4" in found.container.format.name else None

    @property
    def about(self) -> str:
        """What it holds, in a few words and numbers."""
        return (
            f"{self.name}: {self.duration_s:,.2f} s of {self.channels} channels at {self.rate} Hz, {self.track.codec}"
        )

    @property
    def rate(self) -> int:
        """Samples in a second."""
        return self._head.rate

    @property
    def channels(self) -> int:
        """How many sounds go on at once."""
        return self._head.channels

    def chunks(
        self,
        start_s: float = 0.0,
        stop_s: float | None = None,
        *,
        rate: int | None = None,
        mono: bool = False,
        chunk: int = 65536,
    ) -> Iterator[Sound]:
        """Chunks of `chunk` samples, the last one of what is left, from `start_s` to `stop_s` or the end.

        The first is sample round(start_s * rate). With `rate` the sound is resampled to that many samples in a second,
        with `mono` it is the mean of the channels, (time,).
        """
        self._span(start_s, stop_s)
        if chunk < 1 or (rate is not None and rate < 1):
            raise AttimeError(f"Audio.chunks needs rate and chunk of at least 1; got rate={rate} and chunk={chunk}.")
        target = self.rate if rate is None else int(rate)
        first = round(start_s * target)
        last = None if stop_s is None else round(stop_s * target)
        sound = self._own(first, mono) if target == self.rate else self._resampled(first, target, mono)
        return _cut(sound, None if last is None else last - first, chunk)

    def read(
        self, start_s: float = 0.0, stop_s: float | None = None, *, rate: int | None = None, mono: bool = False
    ) -> Sound:
        """What `chunks` gives, in one array; for spans that fit in memory."""
        empty = np.empty((0,) if mono or self.channels == 1 else (0, self.channels), np.float32)
        return np.concatenate([empty, *self.chunks(start_s, stop_s, rate=rate, mono=mono)])

    @cached_property
    def _head(self) -> _Head:
        frames = list(islice(self._frames(0.0), 2))
        if not frames:
            raise AttimeError(f"{self.path.name} has no sound that can be decoded.")
        one, two = frames[0], frames[-1]
        start = self._place(one, one.sample_rate) or 0
        return _Head(one.sample_rate, one.layout.name, one.layout.nb_channels, start + one.samples, two.samples)

    def _place(self, frame: Any, rate: int) -> int | None:
        """The number of a frame's first sample, by its stamp."""
        stamp = self._stamp(frame)
        return None if stamp is None else round((self.seconds(stamp) - self._origin) * rate)

    def _own(self, first: int, mono: bool) -> Iterator[Sound]:
        """Sound at the file's rate from sample `first` on, in pieces of any length."""
        for sound in self._trimmed(first):
            piece = sound.mean(1) if mono else sound
            yield piece[:, 0] if piece.ndim == 2 and piece.shape[1] == 1 else piece

    def _trimmed(self, first: int) -> Iterator[Sound]:
        """Without what an encoder added at the end: up to one frame more than the file says it lasts."""
        rate = self._head.rate
        end = None if self._stated is None else round((self.seconds(self._stated) + self._begin_s) * rate)
        at, held = first, np.empty((0, self._head.channels), np.float32)
        for sound in self._filled(first):
            at += len(sound)
            if end is None or at <= end:
                yield sound
                continue
            held = np.concatenate([held, sound])
            if at - end > max(2 * self._head.size, 1):
                yield held
                end = None
        if len(held) and end is not None:
            yield held[: max(end - (at - len(held)), 0)]

    def _filled(self, first: int) -> Iterator[Sound]:
        """From sample `first` on, with silence in gaps and without what overlaps."""
        at = first
        for place, sound in self._placed(first):
            while place - at > 0:
                silence = np.zeros((min(place - at, _BLOCK), sound.shape[1]), np.float32)
                yield silence
                at += len(silence)
            rest = sound[at - place :]
            if len(rest):
                yield rest
                at += len(rest)

    def _placed(self, first: int) -> Iterator[tuple[int, Sound]]:
        """Decoded sound from before sample `first` on, each piece with the number of its first sample."""
        frames = self._frames(max(first / self.rate - _BEFORE_S, 0.0))
        start = next(frames, None)
        if start is None:
            return
        at = self._anchor(start)
        if at is None:
            frames = self._frames(0.0)
            start = next(frames)
            at = self._place(start, self.rate) or 0
        for frame in chain([start], frames):
            place = self._place(frame, self.rate)
            if place is not None and abs(place - at) > _GAP_S * self.rate:
                at = place
            sound = _floats(frame)
            if sound.shape[1] != self.channels or frame.sample_rate != self.rate:
                raise AttimeError(
                    f"Audio needs one rate and one number of channels in a stream; {self.path.name} changes from "
                    f"{self.channels} at {self.rate} Hz to {sound.shape[1]} at {frame.sample_rate} Hz."
                )
            yield at, sound
            at += len(sound)

    def _anchor(self, frame: Any) -> int | None:
        """The exact number of the first sample after a seek: its stamp may be rounded, frames of one size are not."""
        place, head = self._place(frame, self.rate), self._head
        if place is None or self._tick * self.rate <= 1 or place < head.second:
            return place
        if self.track.codec == "vorbis":  # its frames have many sizes
            return None
        exact = head.second + round((place - head.second) / head.size) * head.size
        return exact if frame.samples == head.size and abs(exact - place) <= self._tick * self.rate else None

    def _resampled(self, first: int, target: int, mono: bool) -> Iterator[Sound]:
        """From sample `first` at the rate `target` on; begun where samples of both rates fall together."""
        av, rate = pyav(), self.rate
        step_in, step_out = rate // gcd(rate, target), target // gcd(rate, target)
        begin = max(first // step_out - target // (4 * step_out) - 1, 0)
        resampler = av.AudioResampler(format="fltp", layout="mono" if mono else self._head.layout, rate=target)
        skip = first - begin * step_out
        for sound in chain(_cut(self._own(begin * step_in, mono), None, _BLOCK), [None]):
            frame = None
            if sound is not None:
                planes = np.ascontiguousarray(sound.reshape(len(sound), -1).T)
                frame = av.AudioFrame.from_ndarray(planes, "fltp", resampler.layout)
                frame.sample_rate = rate
            for made in resampler.resample(frame):
                whole = made.to_ndarray().T
                piece = whole[skip:, 0] if whole.shape[1] == 1 else whole[skip:]
                skip = max(skip - len(whole), 0)
                yield piece


def _floats(frame: Any) -> Sound:
    """The samples of a decoded frame, (time, channels)."""
    samples = frame.to_ndarray()
    samples = samples.T if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels)
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    half = 2.0 ** (8 * samples.dtype.itemsize - 1)
    return ((samples - half if samples.dtype.kind == "u" else samples) / half).astype(np.float32)


def _cut(sound: Iterator[Sound], total: int | None, chunk: int) -> Iterator[Sound]:
    """The same sound in chunks of one length, `total` samples at most."""
    held, size, given = [], 0, 0
    try:
        for piece in sound:
            held.append(piece if total is None else piece[: total - given - size])
            size += len(held[-1])
            while size >= chunk:
                joined = np.concatenate(held)
                yield joined[:chunk].copy()
                held, size, given = [joined[chunk:]], size - chunk, given + chunk
            if total is not None and given + size >= total:
                break
    except AttimeError:
        if size:
            yield np.concatenate(held)
        raise
    if size:
        yield np.concatenate(held)
