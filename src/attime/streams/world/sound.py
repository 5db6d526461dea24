"""Sound of a scene: what happens is heard from the moment it starts to the moment it stops.

The voice says what happens, the pitch says to whom: each colour has a note, and a thing keeps its note as it keeps its name.
Every sample is a function of its moment alone, so any cutting of time gives the same samples, bit for bit.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attime.errors import AttimeError
from attime.streams.world.scene import CAMERA, COLOURS, Shot
from attime.streams.world.world import World

__all__ = ["LOUD", "NOTES", "VOICES", "Sound", "hear", "hear_many", "sound", "sounds"]

Samples = NDArray[np.float32]
NOTES = dict(zip(COLOURS, (440.0, 495.0, 556.9, 660.0, 742.5, 880.0, 990.0, 1113.8), strict=True))
"""The pitch of each colour in hertz: a pentatonic scale, whose notes sound well together."""
LOUD = 0.24
"""The most that one sound reaches; four at once stay below 1."""
LOWEST_RATE = 8000
EDGE_S, CUT_S, CLICK_S = 0.01, 0.12, 0.05


@dataclass(frozen=True, kw_only=True)
class Sound:
    """One sound: its voice, from when to when, its pitch in hertz, and for a trill the pitch it changes to."""

    kind: str
    start_s: float
    stop_s: float
    pitch: float = 220.0
    other: float = 220.0


def sounds(shot: Shot) -> list[Sound]:
    """All that is heard in a shot, in order: a burst at a cut, one sound for each event, a click at each bounce."""
    heard = []
    if shot.start_s > 0:
        heard.append(Sound(kind="cut", start_s=shot.start_s, stop_s=shot.start_s + CUT_S))
    for event in shot.events:
        pitch = 220.0 if event.who == CAMERA else NOTES[shot.things[event.who].colour]
        other = NOTES.get(event.way, pitch)
        heard.append(Sound(kind=event.kind, start_s=event.start_s, stop_s=event.stop_s, pitch=pitch, other=other))
        if event.kind == "move":
            for when in shot.bounces(event):
                stop = min(when + CLICK_S, event.stop_s)
                heard.append(Sound(kind="bounce", start_s=when, stop_s=stop, pitch=pitch))
    return sorted(heard, key=lambda each: each.start_s)


def hear(shot: Shot, start_s: float | None = None, stop_s: float | None = None, *, rate: int = 16000) -> Samples:
    """Samples (time,) from -1 to 1 at the multiples of 1 / rate from `start_s` on and before `stop_s`, or of all the shot.

    Outside of the shot there is silence. `rate` is 8000 or more.
    """
    _check_rate(rate)
    first = _tick(shot.start_s if start_s is None else start_s, rate)
    last = _tick(shot.stop_s if stop_s is None else stop_s, rate)
    return _mixed(sounds(shot), first, last, end=_tick(shot.stop_s, rate), rate=rate)


def hear_many(shots: Sequence[Shot], seconds: float, *, rate: int = 16000) -> Samples:
    """Samples (shots, time) of the first `seconds` of many shots, each from its own start: for training."""
    _check_rate(rate)
    heard = np.zeros((len(shots), _tick(seconds, rate)), np.float32)
    for row, shot in zip(heard, shots, strict=True):
        samples = hear(shot, shot.start_s, shot.start_s + seconds, rate=rate)[: len(row)]
        row[: len(samples)] = samples
    return heard


def sound(
    world: World, start_s: float = 0.0, stop_s: float | None = None, *, rate: int = 16000, chunk_s: float = 1.0
) -> Iterator[tuple[Samples, float]]:
    """Samples (time,) of a world and the second of the first of them, in pieces of `chunk_s`, or less at a shot's end."""
    _check_rate(rate)
    if not chunk_s * rate >= 1:
        raise AttimeError(f"sound needs chunk_s of a sample or more; got chunk_s={chunk_s} at rate={rate}.")
    for shot in world.shots(start_s, stop_s):
        end = min(shot.stop_s, world.seconds if stop_s is None else stop_s)
        heard, first, last = sounds(shot), _tick(max(shot.start_s, start_s), rate), _tick(end, rate)
        for begin in range(first, last, int(chunk_s * rate)):
            stop = min(begin + int(chunk_s * rate), last)
            yield _mixed(heard, begin, stop, end=last, rate=rate), begin / rate


def _check_rate(rate: int) -> None:
    if rate < LOWEST_RATE:
        raise AttimeError(
            f"the world's sound needs a rate of {LOWEST_RATE} samples per second or more; got rate={rate}."
        )


def _tick(when_s: float, rate: int) -> int:
    """The number of the first sample at this moment or after it."""
    return int(np.ceil(when_s * rate - 1e-5))


def _mixed(heard: Sequence[Sound], first: int, last: int, *, end: int, rate: int) -> Samples:
    """Samples `first` to `last` of these sounds together, silent from `end` on."""
    samples = np.zeros(max(0, last - first), np.float32)
    for each in heard:
        begin, stop = max(first, _tick(each.start_s, rate)), min(last, end, _tick(each.stop_s, rate))
        if begin < stop:
            samples[begin - first : stop - first] += _voiced(each, np.arange(begin, stop) / rate)
    return np.clip(samples, -1, 1, out=samples)


def _voiced(each: Sound, when: NDArray[np.float64]) -> Samples:
    """A sound at these moments, all inside of it, with smooth edges."""
    since = when - each.start_s
    seconds = each.stop_s - each.start_s
    edge = np.clip(np.minimum(since, seconds - since) / min(EDGE_S, seconds / 2), 0, 1)
    return (LOUD * edge * edge * (3 - 2 * edge) * VOICES[each.kind](since, seconds, each)).astype(np.float32)


def _table(*partials: float) -> NDArray[np.float64]:
    """One period of a wave with these amplitudes of its harmonics, peak 1."""
    turn = 2 * np.pi * np.arange(SIZE) / SIZE
    wave = sum(level * np.sin((number + 1) * turn) for number, level in enumerate(partials))
    return wave / np.abs(wave).max()


def _noise(low: int, high: int) -> NDArray[np.float64]:
    """One second of noise between two pitches, which can be repeated without a seam, its rare peaks cut off at 1."""
    random = np.random.default_rng(low)
    spectrum = np.zeros(SIZE // 2 + 1, np.complex128)
    spectrum[low:high] = np.exp(2j * np.pi * random.random(high - low))
    wave = np.fft.irfft(spectrum)
    return np.clip(0.5 * wave / wave.std(), -1, 1)


SIZE = 1 << 14
PURE, REED, HOLLOW = _table(1), _table(1, 0.6, 0.4), _table(1, 0, 0.5)
BREEZE, HISS = _noise(120, 380), _noise(200, 3800)


def _play(table: NDArray[np.float64], turns: Any) -> Any:
    """The wave after so many turns; looked up, because a lookup does not depend on its neighbours."""
    return table[(turns * SIZE).astype(np.int64) & (SIZE - 1)]


def _move(since: Any, seconds: float, each: Sound) -> Any:
    return _play(REED, each.pitch * since)


def _turn(since: Any, seconds: float, each: Sound) -> Any:
    return _play(HOLLOW, each.pitch * since) * (0.6 + 0.4 * _play(PURE, 9 * since + 0.25))


def _hop(since: Any, seconds: float, each: Sound) -> Any:
    """Up by a fifth and back, as the thing goes."""
    bow = (1 - _play(PURE, since / (2 * seconds) + 0.25)) / np.pi
    return _play(PURE, each.pitch * (since + 0.5 * seconds * bow))


def _glide(since: Any, seconds: float, start: float, stop: float, share: tuple[float, float]) -> Any:
    """Turns of a tone that goes from pitch `start` to pitch `stop` within this share of its time."""
    begin, lasts = share[0] * seconds, (share[1] - share[0]) * seconds
    done = np.clip((since - begin) / lasts, 0, 1)
    return start * since + (stop - start) * (0.5 * lasts * done * done + np.maximum(since - begin - lasts, 0))


def _appear(since: Any, seconds: float, each: Sound) -> Any:
    return _play(PURE, _glide(since, seconds, each.pitch / 2, each.pitch, (0, 0.6)))


def _vanish(since: Any, seconds: float, each: Sound) -> Any:
    return _play(PURE, _glide(since, seconds, each.pitch, each.pitch / 2, (0.4, 1)))


def _recolour(since: Any, seconds: float, each: Sound) -> Any:
    """Eight notes a second, the old colour's and the new one's in turn."""
    new = (since * 8).astype(np.int64) % 2 == 1
    return np.where(new, _play(HOLLOW, each.other * since), _play(HOLLOW, each.pitch * since))


def _grow(since: Any, seconds: float, each: Sound) -> Any:
    return _play(REED, each.pitch * since) * (0.1 + 0.9 * since / seconds)


def _shrink(since: Any, seconds: float, each: Sound) -> Any:
    return _play(REED, each.pitch * since) * (1 - 0.9 * since / seconds)


def _flash(since: Any, seconds: float, each: Sound) -> Any:
    """A bell: partials that are no harmonics, dying away."""
    left = 1 - since / seconds
    bell = sum(level * _play(PURE, ratio * each.pitch * since) for ratio, level in ((1, 0.5), (2.4, 0.3), (3.2, 0.2)))
    return bell * (0.1 + 0.9 * left * left * left)


def _pan(since: Any, seconds: float, each: Sound) -> Any:
    return _play(BREEZE, since)


def _bounce(since: Any, seconds: float, each: Sound) -> Any:
    left = 1 - since / seconds
    return _play(HISS, since) * left


def _cut(since: Any, seconds: float, each: Sound) -> Any:
    return _play(HISS, since + 0.5) * (1 - 0.8 * since / seconds)


VOICES: dict[str, Callable[[Any, float, Sound], Any]] = {
    "move": _move,
    "turn": _turn,
    "hop": _hop,
    "appear": _appear,
    "vanish": _vanish,
    "recolour": _recolour,
    "grow": _grow,
    "shrink": _shrink,
    "flash": _flash,
    "pan": _pan,
    "bounce": _bounce,
    "cut": _cut,
}
"""What each kind of happening sounds like, -1 to 1, at moments counted from its start: (moments, its length, the sound)."""
