"""Films and sounds written to files as they come, in constant memory; a file that is not finished is never seen."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from attime.errors import AttimeError
from attime.streams.recording import pyav

__all__ = ["write_film", "write_sound"]

_BLOCK = 4096
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


@dataclass(frozen=True, kw_only=True)
class _Codecs:
    video: str = ""
    pixels: str = "yuv420p"
    audio: str = ""
    samples: str = "fltp"
    even: bool = False


_FILMS = {
    ".mp4": _Codecs(video="libx264", audio="aac", even=True),
    ".m4v": _Codecs(video="libx264", audio="aac", even=True),
    ".mov": _Codecs(video="libx264", audio="aac", even=True),
    ".mkv": _Codecs(video="libx264", audio="aac", even=True),
    ".webm": _Codecs(video="libvpx-vp9", audio="libopus", samples="flt"),
    ".gif": _Codecs(video="gif", pixels="pal8"),
}
_LOSSLESS = _Codecs(video="ffv1", pixels="bgr0", audio="flac", samples="s32")
_SOUNDS = {
    ".wav": _Codecs(audio="pcm_s16le", samples="s16"),
    ".flac": _Codecs(audio="flac", samples="s32"),
    ".mp3": _Codecs(audio="libmp3lame"),
    ".m4a": _Codecs(audio="aac"),
    ".ogg": _Codecs(audio="libopus", samples="flt"),
}


def write_film(
    path: str | Path,
    frames: Iterable[Any],
    *,
    fps: float,
    sound: Iterable[Any] | None = None,
    rate: int | None = None,
    quality: int = 18,
    lossless: bool = False,
) -> Path:
    """Write pictures, and sound with them, to `.mp4`, `.mov`, `.mkv`, `.webm` or `.gif`, and return the path.

    `frames` yields uint8 arrays (height, width, 3) or (time, height, width, 3); picture i is shown from i / `fps`. `sound`
    yields float arrays from -1 to 1, (time,) or (time, channels), at `rate` samples in a second; what is louder is clipped.
    Both begin together, and the longer one may go on. They are taken as they are needed, a little of each in turn.
    `quality` is the constant rate factor of the encoder, 0 the best: at 18 eyes hardly see a loss. A `.mkv` can be
    `lossless`. A `.gif` is silent, has 256 colours for each picture, and rounds times to 1/100 s. A file that stands there
    is replaced once the new one is whole.
    """
    path = Path(path).expanduser()
    suffix = path.suffix.lower()
    if suffix not in _FILMS:
        hint = "; write_sound writes those" if suffix in _SOUNDS else ""
        raise AttimeError(f"write_film writes {', '.join(_FILMS)}; got {path.name}{hint}.")
    if not 0.001 <= fps <= 1000 or (suffix == ".gif" and fps > 50):
        raise AttimeError(
            f"write_film needs fps from 0.001 to 1000, in a .gif at most 50; got fps={fps} for {path.name}."
        )
    if sound is not None and (rate is None or rate < 1):
        raise AttimeError(f"write_film needs with sound its rate, at least 1 sample in a second; got rate={rate}.")
    if sound is not None and suffix == ".gif":
        raise AttimeError("write_film cannot put sound into a .gif: write .mp4, .mkv or .webm.")
    if lossless and suffix != ".mkv":
        raise AttimeError(
            f"write_film is lossless in a .mkv; got {path.name}: change its suffix or leave out lossless."
        )
    if not 0 <= quality <= 51:
        raise AttimeError(f"write_film needs a quality from 0, the best, to 51; got quality={quality}.")
    codecs = _LOSSLESS if lossless else _FILMS[suffix]
    pictures = _some(_pictures(frames, codecs.even), "write_film needs at least one frame; got none.")
    with _written(path, rate) as container:
        tracks = [_film(container, codecs, pictures, Fraction(fps).limit_denominator(100_000), quality)]
        if sound is not None and rate is not None:
            blocks = _some(_blocks(sound), "write_film needs sound of at least one sample; got none: leave it out.")
            tracks.append(_sound(container, codecs, blocks, rate))
        _interleave(tracks)
    return path


def write_sound(path: str | Path, sound: Iterable[Any], *, rate: int) -> Path:
    """Write sound to `.wav`, `.flac`, `.mp3`, `.m4a` or `.ogg`, as `write_film` takes it, and return the path."""
    path = Path(path).expanduser()
    codecs = _SOUNDS.get(path.suffix.lower())
    if codecs is None:
        raise AttimeError(f"write_sound writes {', '.join(_SOUNDS)}; got {path.name}.")
    if rate < 1:
        raise AttimeError(f"write_sound needs a rate of at least 1 sample in a second; got rate={rate}.")
    blocks = _some(_blocks(sound), "write_sound needs at least one sample; got none.")
    with _written(path, rate) as container:
        _interleave([_sound(container, codecs, blocks, rate)])
    return path


def _some(items: Iterator[Any], otherwise: str) -> Iterator[Any]:
    """The same items, if there are any."""
    first = next(items, None)
    if first is None:
        raise AttimeError(otherwise)
    return chain([first], items)


@contextmanager
def _written(path: Path, rate: int | None) -> Iterator[Any]:
    """A container under a name of its own, which takes its place when all went well and is removed when not."""
    av = pyav()
    if not path.parent.is_dir():
        raise AttimeError(f"writing {path.name} needs a folder that exists; there is no {path.parent}: make it first.")
    unfinished = path.with_name(f".{path.stem}-{uuid4().hex[:8]}{path.suffix}")
    options = {"fflags": "bitexact"}
    if path.suffix.lower() in (".mp4", ".m4v", ".mov", ".m4a"):
        options["movflags"] = "faststart"
        options["movie_timescale"] = str(rate or 1000)  # so that it says to the sample how long the sound is
    try:
        with av.open(str(unfinished), "w", options=options) as container:
            yield container
        unfinished.replace(path)
    except (av.error.FFmpegError, av.codec.codec.UnknownCodecError) as error:
        raise AttimeError(f"{path.name} cannot be written as asked: {error}.") from None
    finally:
        unfinished.unlink(missing_ok=True)


def _interleave(tracks: list[Iterator[float]]) -> None:
    """Advance the track that is least far, each of which yields the time of what it writes next."""
    ahead = {track: next(track) for track in tracks}
    while ahead:
        track = min(ahead, key=ahead.__getitem__)
        ahead[track] = next(track, float("inf"))
        if ahead[track] == float("inf"):
            del ahead[track]


def _film(
    container: Any, codecs: _Codecs, pictures: Iterator[NDArray[np.uint8]], fps: Fraction, quality: int
) -> Iterator[float]:
    av, first = pyav(), next(pictures)
    height, width = first.shape[:2]
    options = {"crf": str(quality), "preset": "fast"} if codecs.video == "libx264" else {}
    if codecs.video == "libvpx-vp9":
        options = {"crf": str(quality), "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}
    stream = container.add_stream(codecs.video, rate=fps, options=options)
    stream.width, stream.height, stream.pix_fmt = width, height, codecs.pixels
    context = stream.codec_context
    context.time_base = 1 / fps
    if codecs.pixels == "yuv420p":
        context.gop_size = max(round(2 * fps), 1)  # so that seeking decodes two seconds at most
        context.colorspace = context.color_primaries = context.color_trc = context.color_range = 1  # BT.709, limited
        convert = _planes(codecs.pixels)
    else:
        convert = _palettes(width, height, 1 / fps) if codecs.pixels == "pal8" else _planes(codecs.pixels)
    for number, picture in enumerate(chain([first], pictures)):
        yield float(number / fps)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts, frame.time_base = number, 1 / fps
        for each in convert(frame):
            container.mux(stream.encode(each))
    for each in convert(None):
        container.mux(stream.encode(each))
    container.mux(stream.encode(None))


def _planes(pixels: str) -> Callable[[Any], list[Any]]:
    """From RGB to the pixels of an encoder."""
    reformatter = pyav().video.reformatter.VideoReformatter()
    space = {"dst_colorspace": 1, "dst_color_range": 1} if pixels == "yuv420p" else {}
    return lambda frame: [] if frame is None else [reformatter.reformat(frame, format=pixels, threads=1, **space)]


def _palettes(width: int, height: int, time_base: Fraction) -> Callable[[Any], Iterator[Any]]:
    """From RGB to the 256 colours that suit each picture best."""
    av = pyav()
    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format="rgb24", time_base=time_base)
    split, sink = graph.add("split"), graph.add("buffersink")
    palette = graph.add("palettegen", "stats_mode=single:reserve_transparent=0")
    use = graph.add("paletteuse", "new=1:dither=none")
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(palette, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()

    def convert(frame: Any) -> Iterator[Any]:
        graph.vpush(frame)
        with suppress(av.error.BlockingIOError, av.error.EOFError):
            while True:
                yield graph.vpull()

    return convert


def _sound(container: Any, codecs: _Codecs, blocks: Iterator[NDArray[np.float32]], rate: int) -> Iterator[float]:
    av, first = pyav(), next(blocks)
    layout = _LAYOUTS[len(first)]
    rates = av.codec.Codec(codecs.audio, "w").audio_rates or [rate]
    stream = container.add_stream(codecs.audio, rate=min(rates, key=lambda each: (each < rate, abs(each - rate))))
    stream.codec_context.layout, stream.codec_context.format = layout, codecs.samples
    done = 0
    for block in chain([first], blocks):
        yield done / rate
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, done, Fraction(1, rate)
        container.mux(stream.encode(frame))
        done += block.shape[1]
    container.mux(stream.encode(None))


def _pictures(frames: Iterable[Any], even: bool) -> Iterator[NDArray[np.uint8]]:
    """One picture after the other, checked."""
    size = None
    for given in frames:
        array = np.asarray(given)
        if array.dtype != np.uint8 or array.ndim not in (3, 4) or array.shape[-1] != 3:
            raise AttimeError(
                "write_film needs frames as uint8 (height, width, 3) or (time, height, width, 3); "
                f"got {array.dtype} {array.shape}."
            )
        for picture in array.reshape(-1, *array.shape[-3:]):
            size = size or picture.shape
            if picture.shape != size:
                raise AttimeError(f"write_film needs frames of one size; got {picture.shape} after {size}.")
            if not size[0] or not size[1] or (even and (size[0] % 2 or size[1] % 2)):
                raise AttimeError(
                    f"write_film needs even height and width for this kind of file; got {size[0]} and {size[1]}: "
                    "cut or pad by one, or write .webm, .gif or a lossless .mkv."
                )
            yield picture


def _blocks(sound: Iterable[Any]) -> Iterator[NDArray[np.float32]]:
    """Sound as (channels, time), a little at a time, checked."""
    channels = None
    for given in [sound] if hasattr(sound, "ndim") else sound:
        array = np.asarray(given)
        wide = array.reshape(len(array), -1) if array.ndim in (1, 2) else array
        if array.dtype.kind != "f" or wide.ndim != 2 or wide.shape[1] not in _LAYOUTS:
            raise AttimeError(
                "sound needs float arrays (time,) or (time, channels) with 1, 2 or 6 channels; "
                f"got {array.dtype} {array.shape}."
            )
        channels = channels or wide.shape[1]
        if wide.shape[1] != channels:
            raise AttimeError(f"sound needs one number of channels; got {wide.shape[1]} after {channels}.")
        if not np.isfinite(wide).all():
            raise AttimeError("sound needs finite numbers; got some that are not.")
        for start in range(0, len(wide), _BLOCK):
            yield wide[start : start + _BLOCK].T.clip(-1, 1).astype(np.float32)
