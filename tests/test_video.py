"""Video and audio: what is written comes back, every picture and sample at its time; damage is said, memory stays small."""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attime.errors import AttimeError
from attime.streams import Audio, Video, write_film, write_sound

av = pytest.importorskip("av")

HEIGHT, WIDTH, FPS, RATE = 48, 64, 25, 16000
CLIPS = Path(os.environ.get("ATTIME_DATA", "")) / "video"


def picture(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A soft picture that carries its number in the eight blocks of its upper third."""
    rows, columns = np.mgrid[:height, :width]
    made = np.stack([columns * 255 // width, rows * 255 // height, (rows + columns) % 128], -1).astype(np.uint8)
    for bit in range(8):
        made[: height // 3, bit * width // 8 : (bit + 1) * width // 8] = 235 if number >> bit & 1 else 20
    return made


def numbers(pictures: np.ndarray) -> list[int]:
    blocks = pictures[:, : pictures.shape[1] // 3].reshape(len(pictures), pictures.shape[1] // 3, 8, -1)
    return ((blocks.mean((1, 3)) > 127) @ (1 << np.arange(8))).tolist()


def clicks(*times_s: float, length_s: float = 4.0) -> np.ndarray:
    samples = np.zeros(round(length_s * RATE), np.float32)
    for time_s in times_s:
        samples[round(time_s * RATE) :][:4] = [0.9, -0.9, 0.9, -0.9]
    return samples


def noise(length_s: float, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (round(length_s * RATE), channels)).astype(np.float32)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / ((one.astype(float) - other) ** 2).mean()))


def until_damage(chunks: Iterator[Any]) -> tuple[list[Any], str]:
    """What came, and the sentence that ended it."""
    given = []
    try:
        for chunk in chunks:
            given.append(chunk)
    except AttimeError as error:
        return given, str(error)
    raise AssertionError("nothing was said of the damage")


def mux(path: Path, pts_ms: list[int], *, start: int = 0, codec: str = "libx264", **sounds: np.ndarray) -> Path:
    """A file whose pictures have these times; sounds are named by their language."""
    with av.open(str(path), "w") as container:
        film = container.add_stream(codec, rate=FPS)
        film.width, film.height, film.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        film.codec_context.time_base = Fraction(1, 1000)
        tracks = [container.add_stream("pcm_s16le", rate=RATE, layout="mono") for _ in sounds]
        for track, language in zip(tracks, sounds, strict=True):
            track.metadata["language"] = language
        for track, samples in zip(tracks, sounds.values(), strict=True):
            frame = av.AudioFrame.from_ndarray((samples[None] * 32767).astype(np.int16), "s16", "mono")
            frame.sample_rate, frame.pts = RATE, 0
            container.mux(track.encode(frame))
            container.mux(track.encode(None))
        for number, pts in enumerate(pts_ms):
            frame = av.VideoFrame.from_ndarray(picture(start + number), "rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, 1000)
            container.mux(film.encode(frame))
        container.mux(film.encode(None))
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds at 25 pictures a second, with sound in two channels."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return write_film(path, map(picture, range(250)), fps=FPS, sound=noise(10, 2), rate=RATE)


class TestRoundTrip:
    @pytest.mark.parametrize("fps", [25, 30000 / 1001, 12.5], ids=["25", "ntsc", "12.5"])
    @pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm"])
    def test_film_with_sound(self, tmp_path: Path, name: str, fps: float) -> None:
        path = write_film(tmp_path / name, map(picture, range(60)), fps=fps, sound=clicks(0.5, 3.9), rate=RATE)
        frames, when_s = Video(path).read()
        assert frames.shape == (60, HEIGHT, WIDTH, 3)
        np.testing.assert_allclose(when_s, np.arange(60) / fps, rtol=0, atol=1e-9)
        assert numbers(frames) == list(range(60))
        assert min(psnr(frame, picture(number)) for number, frame in enumerate(frames)) > 30
        audio = Audio(path)
        samples = audio.read()
        loud = np.flatnonzero(np.abs(samples) > 0.5 * np.abs(samples).max()) / audio.rate
        assert loud[0] == pytest.approx(0.5, abs=0.001)
        assert loud[-1] == pytest.approx(3.9, abs=0.001)
        assert len(samples) / audio.rate == pytest.approx(4.0, abs=1024 / RATE)
        assert os.listdir(tmp_path) == [name]

    def test_mp4_gives_back_as_many_samples(self, tmp_path: Path) -> None:
        path = write_film(tmp_path / "a.mp4", [picture(0)], fps=1, sound=noise(1.2345), rate=RATE)
        assert len(Audio(path).read()) == round(1.2345 * RATE)

    def test_lossless(self, tmp_path: Path) -> None:
        frames, sound = np.stack([picture(i, 47, 63) for i in range(10)]), noise(0.4, 2)
        path = write_film(tmp_path / "a.mkv", frames, fps=FPS, sound=[sound], rate=RATE, lossless=True)
        np.testing.assert_array_equal(Video(path).read()[0], frames)
        np.testing.assert_allclose(Audio(path).read(), sound, rtol=0, atol=2**-23)

    def test_gif(self, tmp_path: Path) -> None:
        video = Video(write_film(tmp_path / "a.gif", map(picture, range(12)), fps=12.5))
        frames, when_s = video.read()
        np.testing.assert_allclose(when_s, np.arange(12) * 0.08, atol=1e-9)
        assert numbers(frames) == list(range(12))
        assert psnr(frames[7], picture(7)) > 30
        assert video.about == "a: 0.96 s of 64x48 at 12.5 frames/s, gif"

    @pytest.mark.parametrize(
        ("name", "error"),
        [("a.wav", 1e-4), ("a.flac", 1e-6), ("a.mp3", 0.2), ("a.m4a", 0.2), ("a.ogg", 0.2)],
    )
    def test_sound(self, tmp_path: Path, name: str, error: float) -> None:
        tone = (0.5 * np.sin(np.arange(2 * RATE) * 2 * np.pi * 440 / RATE)).astype(np.float32)
        audio = Audio(write_sound(tmp_path / name, (tone[i : i + 999] for i in range(0, len(tone), 999)), rate=RATE))
        samples = audio.read(rate=RATE)
        assert samples.dtype == np.float32
        assert samples.shape == tone.shape
        np.testing.assert_allclose(samples[1000:-1000], tone[1000:-1000], rtol=0, atol=error)

    def test_frames_may_be_chunks_arrays_or_tensors(self, tmp_path: Path) -> None:
        whole = np.stack([picture(i) for i in range(6)])
        for given in (whole, [whole[:2], whole[2], torch.from_numpy(whole[3:])], [torch.from_numpy(whole)]):
            assert numbers(Video(write_film(tmp_path / "a.mp4", given, fps=5)).read()[0]) == [0, 1, 2, 3, 4, 5]

    def test_frames_and_sound_are_taken_in_turn(self, tmp_path: Path) -> None:
        taken = {"frames": 0.0, "sound": 0.0}
        apart: list[float] = []

        def note(name: str, until_s: float) -> None:
            taken[name] = until_s
            apart.append(abs(taken["frames"] - taken["sound"]))

        def frames() -> Iterator[np.ndarray]:
            for number in range(250):
                yield picture(number)
                note("frames", number / FPS)

        def sound() -> Iterator[np.ndarray]:
            for second in range(20):
                yield noise(0.5)
                note("sound", second / 2)

        write_film(tmp_path / "a.mp4", frames(), fps=FPS, sound=sound(), rate=RATE)
        assert taken == {"frames": 249 / FPS, "sound": 9.5}
        assert max(apart) < 1.2

    def test_an_interrupted_write_leaves_what_was_there(self, tmp_path: Path) -> None:
        def broken() -> Iterator[np.ndarray]:
            yield from map(picture, range(50))
            raise KeyboardInterrupt

        path = tmp_path / "a.mp4"
        path.write_bytes(b"before")
        with pytest.raises(KeyboardInterrupt):
            write_film(path, broken(), fps=FPS)
        assert os.listdir(tmp_path) == ["a.mp4"]
        assert path.read_bytes() == b"before"

    @pytest.mark.parametrize(
        ("name", "frames", "options", "message"),
        [
            ("a.avi", [picture(0)], {}, "writes .mp4, .m4v, .mov, .mkv, .webm, .gif; got a.avi"),
            ("a.wav", [picture(0)], {}, "write_sound writes those"),
            ("a.mp4", [picture(0, 47, 63)], {}, "needs even height and width .* got 47 and 63"),
            ("a.mp4", [picture(0), picture(0, 50)], {}, "frames of one size"),
            ("a.mp4", [picture(0) / 255.0], {}, "needs frames as uint8 .* got float64"),
            ("a.mp4", [picture(0)[..., 0]], {}, r"got uint8 \(48, 64\)"),
            ("a.mp4", [], {}, "at least one frame"),
            ("a.mp4", [picture(0)], {"fps": 0}, "fps from 0.001"),
            ("a.gif", [picture(0)], {"fps": 60}, "at most 50"),
            ("a.gif", [picture(0)], {"sound": clicks(0), "rate": RATE}, "cannot put sound into a .gif"),
            ("a.mp4", [picture(0)], {"sound": clicks(0)}, "with sound its rate"),
            ("a.mp4", [picture(0)], {"sound": [np.ones((5, 7))], "rate": RATE}, "with 1, 2 or 6 channels"),
            ("a.mp4", [picture(0)], {"sound": [np.ones(5), np.ones((5, 2))], "rate": RATE}, "2 after 1"),
            ("a.mp4", [picture(0)], {"sound": [np.full(5, np.nan)], "rate": RATE}, "finite"),
            ("a.mp4", [picture(0)], {"lossless": True}, "lossless in a .mkv"),
            ("a.mp4", [picture(0)], {"quality": 99}, "quality from 0"),
            ("no/a.mp4", [picture(0)], {}, "there is no .*no: make it first"),
        ],
    )
    def test_what_cannot_be_written(self, tmp_path: Path, name: str, frames: Any, options: Any, message: str) -> None:
        with pytest.raises(AttimeError, match=message):
            write_film(tmp_path / name, frames, **{"fps": FPS, **options})
        assert not os.listdir(tmp_path)


class TestVideo:
    def test_what_it_holds(self, film: Path) -> None:
        video = Video(film)
        assert video.about == "film: 10.00 s of 64x48 at 25 frames/s, h264"
        assert (video.size, video.rate, video.duration_s) == ((48, 64), 25.0, 10.0)
        held = [(track.kind, track.codec, track.form) for track in video.streams]
        assert held == [("video", "h264", "64x48"), ("audio", "aac", "16000 Hz stereo")]
        assert pickle.loads(pickle.dumps(video)).about == video.about

    @pytest.mark.parametrize("start_s", [0.0, 0.04, 1.0, 1.99, 2.0, 2.02, 5.4, 9.96])
    def test_begins_at_or_after_the_start(self, film: Path, start_s: float) -> None:
        frames, when_s = Video(film).read(start_s, start_s + 0.5)
        first = int(np.ceil(start_s * FPS - 1e-6))
        assert numbers(frames) == list(range(first, 250))[: len(frames)]
        np.testing.assert_allclose(when_s, np.arange(first, first + len(frames)) / FPS, atol=1e-9)
        assert len(frames) == sum(start_s - 1e-6 <= number / FPS < start_s + 0.5 - 1e-6 for number in range(250))

    def test_seeking_decodes_little(self, film: Path) -> None:
        given = sum(1 for _ in Video(film)._frames(8.5))
        assert given < 120, "two seconds between the places where decoding can begin"

    @pytest.mark.parametrize("chunk", [1, 7, 16, 1000])
    def test_chunks(self, film: Path, chunk: int) -> None:
        chunks = list(Video(film).frames(3, 5, chunk=chunk))
        assert [len(frames) for frames, _ in chunks] == [chunk] * (50 // chunk) + [50 % chunk] * (50 % chunk > 0)
        assert numbers(np.concatenate([frames for frames, _ in chunks])) == list(range(75, 125))

    def test_fps_takes_what_is_on_screen(self, film: Path) -> None:
        frames, when_s = Video(film).read(1, 4, fps=3)
        np.testing.assert_allclose(when_s, 1 + np.arange(9) / 3)
        assert numbers(frames) == [int(time * FPS + 1e-6) for time in when_s]
        assert numbers(Video(film).read(9, fps=50)[0]) == [225 + number // 2 for number in range(50)]
        assert numbers(Video(film).read(fps=25)[0]) == list(range(250))

    def test_size_scales(self, film: Path) -> None:
        frames, _ = Video(film).read(2, 2.2, size=(24, 32))
        assert frames.shape == (5, 24, 32, 3)
        assert numbers(frames) == [50, 51, 52, 53, 54]

    def test_at_takes_any_order(self, film: Path) -> None:
        times = [9.99, 0.0, 5.01, 5.0, 4.99, 0.0, 10.0]
        assert numbers(Video(film).at(times)) == [249, 0, 125, 125, 124, 0, 249]
        assert Video(film).at(3).shape == (1, HEIGHT, WIDTH, 3)

    def test_at_seeks_far(self, tmp_path: Path) -> None:
        path = write_film(tmp_path / "a.mkv", map(picture, range(200)), fps=1)
        assert numbers(Video(path).at([150.5, 3, 60, 199.9])) == [150, 3, 60, 199]

    def test_chunks_are_independent(self, film: Path) -> None:
        seen = []
        for frames, _ in Video(film).frames(0, 0.4, fps=200, chunk=7):
            seen += numbers(frames)
            frames[:] = 0
        assert seen == [number // 8 for number in range(80)]

    @pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
    def test_variable_rate(self, tmp_path: Path, name: str) -> None:
        steps = [40, 33, 500, 20, 100, 1000, 40, 41, 15, 200] * 4
        pts = np.cumsum([0, *steps])
        video = Video(mux(tmp_path / name, pts.tolist()))
        frames, when_s = video.read()
        np.testing.assert_allclose(when_s, pts / 1000, atol=0.0005)
        assert numbers(frames) == list(range(41))
        frames, ticks = video.read(0, 7.5, fps=20)
        assert numbers(frames) == (np.searchsorted(pts, np.round(ticks * 1000), side="right") - 1).tolist()
        assert numbers(video.at((pts + 1)[:-1] / 1000)) == list(range(40))

    def test_two_sounds_and_a_late_beginning(self, tmp_path: Path) -> None:
        late = [500 + 40 * number for number in range(30)]
        path = mux(tmp_path / "a.mkv", late, eng=clicks(0.25), deu=clicks(0.75))
        assert [track.language for track in Video(path).streams] == [None, "eng", "deu"]
        for stream, time_s in enumerate((0.25, 0.75)):
            assert np.flatnonzero(Audio(path, stream=stream).read())[0] == time_s * RATE
        np.testing.assert_allclose(Video(path).read()[1], np.array(late) / 1000)
        assert numbers(Video(path).read(0, 1, fps=10)[0]) == [0, 0, 0, 0, 0, 0, 2, 5, 7, 10]
        with pytest.raises(AttimeError, match=r"stream from 0 to 1 of a\.mkv; got 2"):
            Audio(path, stream=2)

    def test_a_clock_that_does_not_begin_at_zero(self, film: Path, tmp_path: Path) -> None:
        with av.open(str(film)) as source, av.open(str(tmp_path / "a.ts"), "w") as target:
            copies = {each.index: target.add_stream_from_template(each) for each in source.streams}
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = copies[packet.stream.index]
                    target.mux(packet)
        with av.open(str(tmp_path / "a.ts")) as container:
            assert container.start_time > 0
        video = Video(tmp_path / "a.ts")
        np.testing.assert_allclose(video.read()[1], np.arange(250) / FPS, atol=0.07)
        late = video.read(7.0, 7.4)
        assert numbers(late[0]) == [round((time - video.read()[1][0]) * FPS) for time in late[1]]

    def test_a_clock_that_begins_anew_goes_on(self, tmp_path: Path) -> None:
        path = mux(tmp_path / "a.ts", [40 * number for number in range(50)])
        path.write_bytes(path.read_bytes() * 2)
        frames, when_s = Video(path).read()
        assert numbers(frames) == [*range(50), *range(50)]
        np.testing.assert_allclose(np.diff(when_s), 1 / FPS, atol=1e-6)

    def test_times_that_are_missing_or_repeat(self, film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        decoded = Video._frames

        def odd(self: Video, start_s: float) -> Iterator[Any]:
            frame: Any
            for number, frame in enumerate(decoded(self, start_s)):
                if number in (3, 4):
                    frame.pts = frame.dts = None
                if number in (6, 8):
                    frame.pts = number * 512 - 600
                yield frame

        monkeypatch.setattr(Video, "_frames", odd)
        when_s = Video(film).read(0, 0.6)[1]
        assert (np.diff(when_s) > 0).all()
        np.testing.assert_allclose(when_s, np.arange(15) / FPS, atol=1.01 / FPS)
        np.testing.assert_allclose(when_s[[0, 3, 4, 9, 14]], np.array([0, 3, 4, 9, 14]) / FPS)

    def test_no_times_at_all(self, tmp_path: Path) -> None:
        path = mux(tmp_path / "a.h264", [40 * number for number in range(60)])
        video = Video(path)
        np.testing.assert_allclose(video.read()[1], np.arange(60) / FPS, atol=1e-6)
        assert video.duration_s == pytest.approx(2.4)
        assert numbers(video.read(1, 1.2)[0]) == [25, 26, 27, 28, 29]

    def test_turned_pictures(self, tmp_path: Path) -> None:
        with av.open(str(tmp_path / "a.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=FPS)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            stream.set_display_rotation(90)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(5), "rgb24")))
            container.mux(stream.encode(None))
        video = Video(tmp_path / "a.mp4")
        assert video.size == (WIDTH, HEIGHT)
        assert psnr(video.read()[0][0], np.rot90(picture(5))) > 30
        assert video.read(size=(32, 24))[0].shape == (1, 32, 24, 3)

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda video: video.frames(10), "lasts 10 s; got start_s=10"),
            (lambda video: video.frames(3, 3), "0 <= start_s < stop_s"),
            (lambda video: video.frames(-1), "0 <= start_s"),
            (lambda video: video.frames(float("nan")), "0 <= start_s"),
            (lambda video: video.frames(fps=0), "fps > 0; got fps=0"),
            (lambda video: video.frames(fps=-5), "fps > 0"),
            (lambda video: video.frames(chunk=0), "chunk=0"),
            (lambda video: video.frames(size=(0, 5)), "both at least 1"),
            (lambda video: video.frames(size=224), r"size as \(height, width\)"),
            (lambda video: video.at([3, 12]), "times from 0 to 10 s"),
            (lambda video: video.at([]).shape == (0, HEIGHT, WIDTH, 3) and video.at([[1.0]]), "in one row"),
            (lambda video: Video(video.path, stream=1), "stream from 0 to 0 of film.mp4; got 1"),
            (lambda video: Video(video.path, damaged="mend"), "damaged='raise' or damaged='keep'"),
        ],
    )
    def test_what_cannot_be_asked(self, film: Path, call: Any, message: str) -> None:
        with pytest.raises(AttimeError, match=message):
            call(Video(film))

    def test_files_that_are_no_video(self, tmp_path: Path) -> None:
        (tmp_path / "text.mp4").write_text("words, and more words\n" * 99)
        (tmp_path / "empty.mp4").touch()
        write_sound(tmp_path / "sound.wav", clicks(0), rate=RATE)
        write_film(tmp_path / "mute.mp4", [picture(0)], fps=1)
        for name, message in {
            "none.mp4": "there is no .*none.mp4",
            "text.mp4": "text.mp4 is none: Invalid data",
            "empty.mp4": "is empty",
            "sound.wav": "Video needs a file with video; sound.wav holds audio pcm_s16le 16000 Hz",
        }.items():
            with pytest.raises(AttimeError, match=message):
                Video(tmp_path / name)
        with pytest.raises(AttimeError, match=r"Audio needs a file with audio; mute\.mp4 holds video h264 64x48"):
            Audio(tmp_path / "mute.mp4")

    def test_the_cover_of_a_record_is_no_video(self, tmp_path: Path) -> None:
        with av.open(str(tmp_path / "a.mp3"), "w") as container:
            sound = container.add_stream("libmp3lame", rate=RATE, layout="mono")
            cover = container.add_stream("png", rate=1)
            cover.width, cover.height, cover.pix_fmt = WIDTH, HEIGHT, "rgb24"
            cover.disposition = av.stream.Disposition.attached_pic
            container.mux(cover.encode(av.VideoFrame.from_ndarray(picture(0), "rgb24")))
            frame = av.AudioFrame.from_ndarray(clicks(0.5)[None], "fltp", "mono")
            frame.sample_rate = RATE
            container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
        assert [track.kind for track in Audio(tmp_path / "a.mp3").streams] == ["audio", "picture"]
        with pytest.raises(AttimeError, match="needs a file with video"):
            Video(tmp_path / "a.mp3")


class TestDamage:
    @pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm"])
    def test_cut_off(self, tmp_path: Path, name: str) -> None:
        path = write_film(tmp_path / name, map(picture, range(200)), fps=FPS)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
        chunks, message = until_damage(Video(path).frames())
        given = [number for frames, _ in chunks for number in numbers(frames)]
        assert 40 < len(given) < 180
        assert given[:40] == list(range(40))
        assert message.startswith(f"{name} is damaged: its video breaks off after {(given[-1] + 1) / FPS:.2f} s")
        kept, when_s = Video(path, damaged="keep").read()
        assert numbers(kept)[: len(given)] == given
        assert (np.diff(when_s) > 0).all()
        assert numbers(Video(path).read(0.6, 1)[0]) == list(range(15, 25)), "what lies before the damage can be read"

    def test_cut_off_before_its_index(self, tmp_path: Path) -> None:
        with av.open(str(tmp_path / "a.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=FPS)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for number in range(60):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), "rgb24")))
            container.mux(stream.encode(None))
        path = tmp_path / "a.mp4"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(AttimeError, match=r"a.mp4 is none \(it is cut off\)"):
            Video(path)

    def test_bytes_that_are_wrong(self, tmp_path: Path) -> None:
        path = write_film(tmp_path / "a.mp4", map(picture, range(200)), fps=FPS)
        content = bytearray(path.read_bytes())
        middle = (content.index(b"mdat") + len(content)) // 2
        content[middle : middle + 400] = bytes(400)
        path.write_bytes(content)
        chunks, message = until_damage(Video(path).frames())
        given = sum(len(frames) for frames, _ in chunks)
        assert message.startswith("a.mp4 is damaged: its video breaks off after")
        assert 20 < given < 180
        kept, when_s = Video(path, damaged="keep").read()
        assert len(kept) > given + 20
        assert numbers(kept[-1:]) == [199]
        assert (np.diff(when_s) > 0).all()

    def test_sound(self, tmp_path: Path) -> None:
        path = write_sound(tmp_path / "a.wav", noise(4), rate=RATE)
        whole = Audio(path).read()
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        given, message = until_damage(Audio(path).chunks(chunk=5000))
        assert message.startswith("a.wav is damaged: its audio breaks off after 1.9")
        kept = Audio(path, damaged="keep").read()
        assert len(kept) == pytest.approx(2 * RATE, abs=50)
        np.testing.assert_array_equal(kept, whole[: len(kept)])
        before = np.concatenate(given)
        np.testing.assert_array_equal(kept[: len(before)], before)
        assert len(before) > 1.9 * RATE


class TestAudio:
    @pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm", "a.wav", "a.flac", "a.mp3"])
    def test_seeking_is_exact_to_the_sample(self, tmp_path: Path, name: str) -> None:
        sound = noise(8)
        if name.endswith(("mp4", "mkv", "webm")):
            path = write_film(tmp_path / name, map(picture, range(8)), fps=1, sound=sound, rate=RATE)
        else:
            path = write_sound(tmp_path / name, sound, rate=RATE)
        audio = Audio(path)
        whole = audio.read()
        for start_s in (0.0, 0.3, 2.71828, 7.1):
            first = round(start_s * audio.rate)
            piece = audio.read(start_s, start_s + 0.25)
            assert abs(len(piece) - 0.25 * audio.rate) < 1
            np.testing.assert_allclose(piece, whole[first : first + len(piece)], rtol=0, atol=1e-3)

    def test_chunks_and_channels(self, film: Path) -> None:
        audio = Audio(film)
        assert audio.about == "film: 10.00 s of 2 channels at 16000 Hz, aac"
        chunks = list(audio.chunks(0, 3, chunk=7000))
        assert [chunk.shape for chunk in chunks] == [(7000, 2)] * 6 + [(6000, 2)]
        np.testing.assert_allclose(audio.read(0, 3, mono=True), np.concatenate(chunks).mean(1), atol=1e-6)

    @pytest.mark.parametrize("rate", [8000, 44100, 48000, 22050])
    def test_rate_resamples(self, tmp_path: Path, rate: int) -> None:
        tone = (0.5 * np.sin(np.arange(4 * RATE) * 2 * np.pi * 440 / RATE)).astype(np.float32)
        audio = Audio(write_sound(tmp_path / "a.wav", tone, rate=RATE))
        whole = audio.read(rate=rate)
        assert len(whole) == 4 * rate
        expected = 0.5 * np.sin(np.arange(4 * rate) * 2 * np.pi * 440 / rate)
        np.testing.assert_allclose(whole[200:-200], expected[200:-200], atol=0.002)
        for start_s in (0.001, 1.2345, 3.5):
            piece, first = audio.read(start_s, start_s + 0.3, rate=rate), round(start_s * rate)
            np.testing.assert_allclose(piece, whole[first : first + len(piece)], atol=1e-6)

    def test_silence_where_there_is_no_sound(self, tmp_path: Path) -> None:
        loud = np.full((1, RATE), 16384, np.int16)
        with av.open(str(tmp_path / "a.mkv"), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
            for start in (0, 3 * RATE):
                for part in range(0, RATE, 800):
                    frame = av.AudioFrame.from_ndarray(loud[:, part : part + 800], "s16", "mono")
                    frame.sample_rate, frame.pts, frame.time_base = RATE, start + part, Fraction(1, RATE)
                    for packet in stream.encode(frame):
                        packet.pts = packet.dts = start + part
                        container.mux(packet)
        samples = Audio(tmp_path / "a.mkv").read()
        assert len(samples) == 4 * RATE
        assert [samples[second * RATE : (second + 1) * RATE].mean() for second in range(4)] == [0.5, 0.0, 0.0, 0.5]

    def test_what_cannot_be_asked(self, film: Path) -> None:
        wrong: list[tuple[dict[str, Any], str]] = [({"rate": 0}, "rate=0"), ({"chunk": 0}, "chunk=0")]
        for options, message in [*wrong, ({"start_s": 11}, "lasts 10 s")]:
            with pytest.raises(AttimeError, match=message):
                Audio(film).chunks(**options)
        with pytest.raises(AttimeError, match=r"write_sound writes \.wav"):
            write_sound("a.mp4", clicks(0), rate=RATE)


def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    code = """
import resource, sys
import numpy as np
from attime.streams import Audio, Video, write_film
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
def film(path, count):
    frames = (np.full((96, 128, 3), number % 256, np.uint8) for number in range(count))
    sound = (np.zeros((1600, 2), np.float32) for _ in range(count))
    write_film(path, frames, fps=10, sound=sound, rate=16000)
    return sum(len(f) for f, _ in Video(path).frames()), sum(len(s) for s in Audio(path).chunks())
film(sys.argv[1], 100)
before = peak()
print(*film(sys.argv[1], 1200), peak() - before)
"""
    out = subprocess.check_output([sys.executable, "-c", code, str(tmp_path / "a.mp4")], text=True)
    frames, samples, grown_mib = map(int, out.split())
    assert (frames, samples) == (1200, 1_920_000)
    assert grown_mib < 20, "the pictures of these two minutes are 42 MiB, the sound 15 MiB"


def test_without_av_only_reading_fails(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"anything")
    code = """
import sys
sys.modules["av"] = None
from attime.streams import Video
Video(sys.argv[1])
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.mp4")], capture_output=True, text=True)
    assert done.stderr.strip().endswith("pip install 'attime[video]'")


@pytest.fixture
def clip(request: pytest.FixtureRequest) -> Path:
    path = CLIPS / request.param
    if not path.is_file():
        pytest.skip(f"the real clip {request.param} is not there: set ATTIME_DATA to the folder that holds video/")
    return path


TRUTHS = {
    "big_buck_bunny_0_30.webm": (720, (720, 1280), 24.0, 30.003, "vp8"),
    "bigbuckbunny.mp4": (132, (720, 1280), 25.0, 5.28, "h264"),
    "carphone_distorted.mp4": (120, (144, 176), 30000 / 1001, 4.004, "h264"),
    "carphone_pristine.mp4": (120, (144, 176), 30000 / 1001, 4.004, "h264"),
    "cockatoo.mp4": (280, (720, 1280), 20.0, 14.0, "h264"),
    "fire2.mp4": (25, (720, 1280), 750000 / 71393, 2.379767, "h264"),
    "flipping_a_pancake.mkv": (310, (240, 426), 30.0, 10.381, "h264"),
    "newtonscradle.gif": (36, (150, 200), 36 / 0.82, 0.82, "gif"),
}


class TestRealClips:
    @pytest.mark.parametrize(("clip", "truth"), TRUTHS.items(), indirect=["clip"], ids=TRUTHS)
    def test_every_picture_at_its_time(self, clip: Path, truth: Any) -> None:
        video = Video(clip)
        held = (video.size, video.rate, video.duration_s, video.track.codec)
        assert held == (truth[1], pytest.approx(truth[2]), pytest.approx(truth[3]), truth[4])
        with av.open(str(clip)) as container:
            stream = container.streams.video[0]
            stamps = sorted(float(packet.pts * packet.time_base) for packet in container.demux(stream) if packet.size)
        chunks = list(video.frames(size=(60, 80)))
        times = np.concatenate([when_s for _, when_s in chunks])
        assert sum(len(frames) for frames, _ in chunks) == len(stamps) == truth[0]
        np.testing.assert_allclose(times, stamps, rtol=0, atol=0.00051)
        assert (np.diff(times) > 0).all()
        with av.open(str(clip)) as container:
            for ours, frame in zip(chunks[0][0], container.decode(video=0), strict=False):
                plain = np.rot90(frame.to_ndarray(format="rgb24", width=80, height=60), frame.rotation // 90)
                np.testing.assert_array_equal(ours, plain)

    @pytest.mark.parametrize("clip", list(TRUTHS), indirect=True)
    def test_seeking_gives_the_same_pictures(self, clip: Path) -> None:
        video = Video(clip)
        middle = video.duration_s * 0.7
        frames, when_s = video.read(middle, middle + 0.2, size=(60, 80))
        assert len(frames)
        for others, times in video.frames(max(middle - 1, 0.0), middle + 0.2, size=(60, 80), chunk=1):
            if times[0] >= middle:
                np.testing.assert_array_equal(others[0], frames[when_s == times[0]][0])

    @pytest.mark.parametrize("clip", ["newtonscradle.gif"], indirect=True)
    def test_delays_of_a_gif(self, clip: Path) -> None:
        delays = np.diff(Video(clip).read()[1]).round(2)
        assert dict(zip(*np.unique(delays, return_counts=True), strict=True)) == {0.02: 31, 0.04: 2, 0.05: 2}

    @pytest.mark.parametrize(
        ("clip", "rate", "channels", "length"),
        [
            ("big_buck_bunny_0_30.webm", 44100, 2, 1_323_972),
            ("bigbuckbunny.mp4", 48000, 6, 254_976),
            ("cockatoo.mp4", 16000, 1, 222_368),
            ("crunching.mp3", 48000, 2, 398_592),
            ("flipping_a_pancake.mkv", 48000, 1, 497_651),
            ("rain.mp3", 44100, 2, 2_666_305),
        ],
        indirect=["clip"],
    )
    def test_sound(self, clip: Path, rate: int, channels: int, length: int) -> None:
        audio = Audio(clip)
        assert (audio.rate, audio.channels) == (rate, channels)
        whole = audio.read()
        assert whole.shape == ((length,) if channels == 1 else (length, channels))
        for start_s in (1.7771, 0.6 * audio.duration_s, audio.duration_s - 0.5):
            piece, first = audio.read(start_s, start_s + 0.2), round(start_s * rate)
            np.testing.assert_allclose(piece, whole[first : first + len(piece)], atol=1e-6)

    @pytest.mark.parametrize("clip", ["fire2.mp4"], indirect=True)
    def test_a_gap_in_the_sound_is_silent(self, clip: Path) -> None:
        samples = Audio(clip).read()
        assert len(samples) == 115_991, "the last frame's stamp and its samples"
        assert not samples[1024:8471].any()
        assert samples[8471:].any()
