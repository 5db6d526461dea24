"""Files of pictures and sound: what they hold, and what can be decoded from them, read piece by piece.

Time 0 is when the first picture or sound of the file begins, as in a player, whatever the file's own clock says then.
So pictures and sound of one file share their seconds, and a stream that begins later begins later here too.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

from attime.errors import AttimeError, MissingExtra
from attime.streams.contract import readable

__all__ = ["Recording", "Track", "pyav"]

_BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"udta", b"uuid", b"sidx", b"mfra")
_BACK_S = (0.0, 5.0, 30.0)  # how much earlier to look for a place from which the wanted time can be decoded


def pyav() -> Any:
    """The package av; MissingExtra without it."""
    try:
        import av
    except ImportError:
        raise MissingExtra("av", "video", "reading and writing video and sound") from None
    return av


@dataclass(frozen=True, kw_only=True)
class Track:
    """One stream of a file: its number there, what it is, how it is coded, and its language if the file says it."""

    index: int
    kind: str
    codec: str
    form: str
    language: str | None

    def __str__(self) -> str:
        return " ".join(word for word in (self.kind, self.codec, self.form, self.language) if word)


class Recording(ABC):
    """A file with at least one stream of one kind. Nothing stays open or in memory between calls; it can be pickled.

    `stream` counts the streams of that kind from 0. A file that is cut off, or has parts that cannot be decoded, gives
    all that lies before the damage and then an AttimeError that says at which second it lies; with `damaged="keep"`
    it gives all that is there, before and behind, with what a decoder makes of it.
    """

    kind: ClassVar[str]

    def __init__(self, path: str | Path, *, stream: int = 0, damaged: str = "raise") -> None:
        who = type(self).__name__
        if damaged not in ("raise", "keep"):
            raise AttimeError(f"{who} needs damaged='raise' or damaged='keep'; got {damaged!r}.")
        self.path, self.damaged = readable(path, self.kind).resolve(), damaged
        self.name = self.path.stem
        with self._opened() as container:
            self.streams = tuple(_track(each) for each in container.streams)
            """All that the file holds."""
            own = [track for track in self.streams if track.kind == self.kind]
            if not own:
                held = ", ".join(str(track) for track in self.streams) or "no streams"
                raise AttimeError(f"{who} needs a file with {self.kind}; {self.path.name} holds {held}.")
            if not 0 <= stream < len(own):
                raise AttimeError(f"{who} needs a stream from 0 to {len(own) - 1} of {self.path.name}; got {stream}.")
            self.track = own[stream]
            """The stream that is read."""
            found = container.streams[self.track.index]
            if found.codec_context is None:
                raise AttimeError(f"{who} cannot read {self.path.name}: this build of av has no decoder for it.")
            self._tick = found.time_base or Fraction(1, 1_000_000)
            self._period = Fraction(0)  # of packets that have no time
            self._origin = _origin(container)
            self._begins = found.start_time
            self._length_s = None if found.duration is None else float(self.seconds(found.duration) + self._begin_s)
            if self._length_s is None and container.duration is not None:
                self._length_s = container.duration / 1e6
            self._look(found)

    @abstractmethod
    def _look(self, found: Any) -> None:
        """Note what the file's head says of the stream `found`."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    @cached_property
    def duration_s(self) -> float:
        """Seconds from time 0 to the end, as the file states them; where it does not, they are counted by reading it."""
        return self._length_s or self._counted_s()

    def seconds(self, ticks: int) -> Fraction:
        """The exact length of so many ticks of the stream's clock."""
        return ticks * self._tick

    @property
    def _begin_s(self) -> Fraction:
        return Fraction(0) if self._begins is None else self.seconds(self._begins) - self._origin

    def _counted_s(self) -> float:
        end = Fraction(0)
        with self._opened() as container, suppress(pyav().error.FFmpegError):
            for packet in container.demux(container.streams[self.track.index]):
                if packet.pts is not None:
                    end = max(end, self.seconds(packet.pts + (packet.duration or 0)) - self._origin)
                elif packet.size:
                    end += self._period
        return float(end)

    def _opened(self) -> Any:
        av = pyav()
        try:
            return av.open(str(self.path), metadata_errors="replace")
        except av.error.FFmpegError as error:
            cut = " (it is cut off)" if _is_cut_off(self.path) else ""
            raise AttimeError(
                f"{self.kind} needs a file that FFmpeg can read; {self.path.name} is none{cut}: {error.strerror}."
            ) from None

    @staticmethod
    def _stamp(frame: Any) -> int | None:
        """When a frame is shown, in ticks of the stream's clock; that of its packet where it has none of its own."""
        return frame.dts if frame.pts is None else frame.pts

    def _span(self, start_s: float, stop_s: float | None) -> None:
        """Check a span of time."""
        if not 0 <= start_s < float("inf") or not (stop_s is None or stop_s > start_s):
            raise AttimeError(f"{self.kind} needs 0 <= start_s < stop_s; got start_s={start_s} and stop_s={stop_s}.")
        if start_s > 0 and start_s >= self.duration_s:
            raise AttimeError(
                f"{self.path.name} lasts {self.duration_s:.6g} s; got start_s={start_s}: begin before its end."
            )

    def _frames(self, start_s: float) -> Iterator[Any]:
        """Decoded frames in the order of time; the first begins at or before `start_s`, not needlessly long before."""
        backs = [back_s for back_s in _BACK_S if start_s - back_s > self._begin_s]
        if backs:
            with self._opened() as container, suppress(pyav().error.FFmpegError):
                stream = container.streams[self.track.index]
                # Some decoders need what only the first packet says: without it x264's old 4:4:4 comes out as noise.
                next(self._decoded(container), None)
                for back_s in backs:
                    container.seek(int((Fraction(start_s - back_s) + self._origin) / self._tick), stream=stream)
                    frames = self._decoded(container)
                    first = next((frame for frame in frames if frame.key_frame or self.kind != "video"), None)
                    stamp = None if first is None else self._stamp(first)
                    if stamp is not None and self.seconds(stamp) - self._origin <= start_s:
                        yield from chain([first], frames)
                        return
        with self._opened() as container:
            yield from self._decoded(container)

    def _decoded(self, container: Any) -> Iterator[Any]:
        error, keep = pyav().error.FFmpegError, self.damaged == "keep"
        stream = container.streams[self.track.index]
        cut = _is_cut_off(self.path)
        if not stream.codec_context.is_open:  # an error in one of several frames decoded at once loses the others
            stream.thread_type = "SLICE" if keep or cut else "AUTO"
        packets = container.demux(stream)
        last: Any = None
        frames: list[Any] = []
        lost = broken = False
        while not broken:
            frames, bad = [], False
            try:
                packet = next(packets, None)
                if packet is None:
                    break
                bad = cut and packet.is_corrupt
                frames = packet.decode() if keep or not bad else []
            except error:
                bad = True
            for frame in frames:
                bad = bad or frame.is_corrupt
                if frame.is_corrupt and not keep:
                    break
                last = frame
                yield frame
            lost = lost or bad
            # A recording of something that was already going on begins with frames that cannot be decoded.
            broken = bad and last is not None and not keep
        if not frames:
            with suppress(error):
                for frame in stream.codec_context.decode(None):
                    last = frame
                    yield frame
        if not keep and (broken or (lost and last is None) or cut):
            place = ""
            if last is not None and (stamp := self._stamp(last)) is not None:
                place = f" after {float(self.seconds(stamp + last.duration) - self._origin):.2f} s"
            raise AttimeError(
                f"{self.path.name} is damaged: its {self.kind} breaks off{place}; damaged='keep' reads what is there."
            )


def _origin(container: Any) -> Fraction:
    """The first time stamp of pictures or sound, on the file's clock, in seconds."""
    starts = [
        # Sound before 0 is what its encoder put before the sound.
        (max(each.start_time, 0) if each.type == "audio" else each.start_time) * each.time_base
        for each in container.streams
        if each.type in ("video", "audio") and each.start_time is not None and each.time_base and not _is_cover(each)
    ]
    return min(starts, default=Fraction(0))


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & pyav().stream.Disposition.attached_pic)


def _track(stream: Any) -> Track:
    context = stream.codec_context
    form = ""
    if context is not None and stream.type == "video":
        form = f"{context.width}x{context.height}"
    elif context is not None and stream.type == "audio":
        form = f"{context.sample_rate} Hz {context.layout.name}"
    kind = "picture" if _is_cover(stream) else stream.type
    codec = "unknown" if context is None else context.name
    return Track(index=stream.index, kind=kind, codec=codec, form=form, language=stream.language)


def _is_cut_off(path: Path) -> bool:
    """Whether the outermost parts of an mp4, Matroska, wav or avi file end behind the end of the file."""
    size = os.path.getsize(path)
    with path.open("rb") as file:
        head = file.read(256)
        if head[:4] in (b"RIFF", b"RF64"):
            stated = int.from_bytes(head[4:8], "little")
            return stated < 0xFFFFFFFF and 8 + stated > size + 1  # the byte that pads odd sizes
        if head[:4] == b"\x1a\x45\xdf\xa3":
            start, length = _ebml_size(head, 4)
            segment, stated = _ebml_size(head, start + length + 4)
            return stated > 0 and segment + stated > size
        at = 0
        while at < size:
            file.seek(at)
            box = file.read(16)
            length = int.from_bytes(box[:4], "big")
            length = int.from_bytes(box[8:16], "big") if length == 1 else length or size - at
            if length < 8 or box[4:8] not in _BOXES:
                return False
            at += length
        return at > size


def _ebml_size(head: bytes, at: int) -> tuple[int, int]:
    """Where an element's content starts, and its length, which is 0 where it is left open."""
    if at >= len(head) or not head[at]:
        return at, 0
    count = 9 - head[at].bit_length()
    value = int.from_bytes(head[at : at + count], "big") - (1 << 7 * count)
    return at + count, 0 if value == (1 << 7 * count) - 1 else value
