"""Readers: what they take, and the sentence that comes for what they cannot take."""

import gzip
import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest

from attime.errors import AttimeError, MissingData, MissingExtra
from attime.streams import (
    TEST,
    TRAIN,
    Events,
    Series,
    public,
    public_files,
    public_names,
    read_events,
    read_pieces,
    read_series,
    read_sounds,
    read_text,
    read_tracks,
    standard_library,
)
from attime.streams.sources import SOURCES, File, Source

GOOD = "date,load,price\n2024-01-01 00:00,1.5,3\n2024-01-01 01:00,2.5,4\n2024-01-01 02:00,3.5,5\n"


def write(folder: Path, content: str | bytes, name: str = "data.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


class TestSeries:
    def test_reads_csv_with_dates(self, tmp_path: Path) -> None:
        series = read_series(write(tmp_path, GOOD))
        assert series.names == ("load", "price")
        assert series.freq == "1h"
        assert series.period == 24
        np.testing.assert_array_equal(series.values, [[1.5, 3], [2.5, 4], [3.5, 5]])
        assert series.when_s is not None
        assert np.diff(series.when_s).tolist() == [3600, 3600]
        assert series.about == "data: 2 series of 3 steps of 1h"

    def test_target_picks_and_orders(self, tmp_path: Path) -> None:
        path = write(tmp_path, GOOD)
        assert read_series(path, target="price").names == ("price",)
        assert read_series(path, target=["price", "load"]).values[0].tolist() == [3, 1.5]
        assert read_series(path).only("price").name == "data:price"

    def test_parquet(self, tmp_path: Path) -> None:
        polars = pytest.importorskip("polars")
        table = polars.read_csv(GOOD.encode(), try_parse_dates=True)
        table.write_parquet(tmp_path / "data.parquet")
        series = read_series(tmp_path / "data.parquet")
        assert (series.freq, series.names) == ("1h", ("load", "price"))

    @pytest.mark.parametrize(
        ("content", "names", "freq"),
        [
            ("date;a\n2024-01-01;1,5\n2024-01-02;2,5\n2024-01-03;3,5\n", ("a",), "1d"),
            ("month,a\n2024-01,1\n2024-02,2\n2024-03,3\n", ("a",), "1mo"),
            ("timestamp,a\n100,1\n160,2\n220,3\n", ("a",), "1min"),
            ("\ufeffdate,a\n2024-01-01T00:00:00Z,1\n2024-01-01T00:15:00Z,2\n2024-01-01T00:30:00Z,3\n", ("a",), "15min"),
            ("0.5,1.5\n0.6,1.6\n", ("column_0", "column_1"), None),
            ("773869,767541\n64.3,67.6\n62.6,68.5\n", ("773869", "767541"), None),
            (",date,a\n0,2024-01-01,1\n1,2024-01-02,2\n2,2024-01-03,3\n", ("a",), "1d"),
        ],
        ids=["semicolons", "months", "seconds", "bom-and-zone", "no-header", "numbers-as-names", "pandas-index"],
    )
    def test_shapes_of_csv(self, tmp_path: Path, content: str, names: tuple[str, ...], freq: str | None) -> None:
        series = read_series(write(tmp_path, content))
        assert (series.names, series.freq) == (names, freq)
        assert len(series.values) in (2, 3)

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            ("", "is empty"),
            ("date,a\n", "at least two rows"),
            ("date,a\n2024-01-01,1\n", "at least two rows"),
            ("date\n2024-01-01\n2024-01-02\n", "one column of numbers"),
            ("date,a\n2024-01-01,1\n2024-01-02,x\n2024-01-03,2\n", r"numbers in column 'a'; 1 times .* row 2: 'x'"),
            ("shop,a\nnorth,1\nnorth,2\n", r"numbers in column 'shop'.*target="),
            ("date,a\n2024-01-01,1\n2024-01-02,\n2024-01-03,NaN\n", r'2 are missing .* row 2 of a.*gaps="fill"'),
            (
                "date,a\n2024-01-01,1\n2024-01-02,2\n2024-01-04,3\n",
                r'missing are 1, the first after row 2.*gaps="fill"',
            ),
            ("date,a\n2024-01-02,1\n2024-01-01,2\n2024-01-03,3\n", "row 2 is not later.*sort"),
            ("date,a\n2024-01-01,1\n2024-01-01,2\n2024-01-02,3\n", "row 2 is not later"),
            (
                "date,a\n2024-01-01 00:00,1\n2024-01-01 01:00,2\n2024-01-01 02:30,3\n2024-01-01 03:30,3\n",
                "equal steps of 1h; row 3",
            ),
            ("date,a\n2024-01-01,1\n2024-01-02,2\nsoon,3\n", r"dates in column 'date'.*row 3: 'soon'"),
            ("a,b\n1,2\n3,4,5\n", "every row as long as the header"),
            (b"\xff\xfe\x00\x01\x02\x03", "CSV in UTF-8 or Parquet"),
        ],
    )
    def test_bad_files_are_one_sentence(self, tmp_path: Path, content: str | bytes, says: str) -> None:
        with pytest.raises(AttimeError, match=says) as caught:
            read_series(write(tmp_path, content))
        assert "\n" not in str(caught.value)

    def test_bad_arguments(self, tmp_path: Path) -> None:
        path = write(tmp_path, GOOD)
        with pytest.raises(AttimeError, match=r"no column 'cost' to forecast; its columns are load, price"):
            read_series(path, target="cost")
        with pytest.raises(AttimeError, match=r"freq needs a number and a unit.*'often'"):
            read_series(path, freq="often")
        with pytest.raises(AttimeError, match='"refuse" or "fill"'):
            read_series(path, gaps="ignore")  # pyright: ignore[reportArgumentType]
        with pytest.raises(AttimeError, match="there is no"):
            read_series(tmp_path / "nothing.csv")
        with pytest.raises(AttimeError, match="is a folder"):
            read_series(tmp_path)
        with pytest.raises(AttimeError, match="CSV in UTF-8 or Parquet"):
            read_series(write(tmp_path, GOOD, "wrong.parquet"))

    def test_gaps_are_filled_on_request(self, tmp_path: Path) -> None:
        content = "date,a,b\n2024-01-01,,1\n2024-01-02,2,\n2024-01-05,5,5\n2024-01-06,6,6\n2024-01-07,7,7\n"
        series = read_series(write(tmp_path, content), gaps="fill")
        assert series.values[:, 0].tolist() == [2, 2, 2, 2, 5, 6, 7]
        assert series.values[:, 1].tolist() == [1, 1, 1, 1, 5, 6, 7]
        assert series.when_s is not None
        assert np.diff(series.when_s).tolist() == [86400] * 6
        with pytest.raises(AttimeError, match="it has none"):
            read_series(write(tmp_path, "date,a\n2024-01-01,\n2024-01-02,\n"), gaps="fill")

    def test_polars_is_optional(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "polars", None)
        with pytest.raises(MissingExtra, match=r"pip install 'attime\[series\]'"):
            read_series(write(tmp_path, GOOD))
        with pytest.raises(MissingExtra, match="polars"):
            read_events(write(tmp_path, "user,item\n1,2\n"))

    def test_periods(self) -> None:
        found = {freq: Series(name="x", values=np.ones((2, 1)), names=("a",), freq=freq).period for freq in
                 ("15min", "1h", "7h", "1d", "1w", "1mo", "1y", None)}  # fmt: skip
        assert found == {"15min": 96, "1h": 24, "7h": None, "1d": 7, "1w": 52, "1mo": 12, "1y": None, None: None}


class TestText:
    def test_a_file_is_cut_in_order(self, tmp_path: Path) -> None:
        corpus = read_text(write(tmp_path, bytes(range(100)), "a.txt"), held_out=0.1)
        joined = np.concatenate([corpus.train, corpus.valid, corpus.test])
        assert joined.tolist() == list(range(100))
        assert (len(corpus.train), len(corpus.valid), len(corpus.test)) == (80, 10, 10)

    def test_a_folder_is_cut_by_file(self, tmp_path: Path) -> None:
        for number in range(80):
            write(tmp_path, f"file {number}\n" * 5, f"{number}.py")
        write(tmp_path, b"\0\1\2" * 99, "binary.py")
        write(tmp_path, "not wanted " * 9, "notes.md")
        before = read_text(tmp_path, suffixes=(".py",), held_out=0.2)
        assert min(len(before.train), len(before.valid), len(before.test)) > 0
        text = bytes(np.concatenate([before.train, before.valid, before.test])).decode()
        assert "not wanted" not in text
        assert "\0" not in text
        write(tmp_path, "one more " * 9, "more.py")
        after = read_text(tmp_path, suffixes=(".py",), held_out=0.2)
        moved = [len(getattr(after, part)) - len(getattr(before, part)) for part in ("train", "valid", "test")]
        assert sorted(moved) == [0, 0, 81], "a new file moved old ones"

    def test_few_files_are_cut_by_length(self, tmp_path: Path) -> None:
        write(tmp_path, "abc " * 100, "a.txt")
        corpus = read_text(tmp_path)
        assert [len(corpus.train), len(corpus.valid), len(corpus.test)] == [360, 20, 20]

    def test_bad_text(self, tmp_path: Path) -> None:
        for wrong, says in ((tmp_path / "no.txt", "there is no"), (write(tmp_path, "", "e.txt"), "is empty")):
            with pytest.raises(AttimeError, match=says):
                read_text(wrong)
        with pytest.raises(AttimeError, match=r"ending in \.py"):
            read_text(tmp_path, suffixes=(".py",))
        with pytest.raises(AttimeError, match="some hundred bytes"):
            read_text(write(tmp_path, "a", "tiny.txt"))
        with pytest.raises(AttimeError, match=r"held_out < 0\.5"):
            read_text(tmp_path, held_out=0.5)

    def test_the_standard_library_is_there(self) -> None:
        corpus = standard_library()
        assert len(corpus.train) > 3_000_000
        assert min(len(corpus.valid), len(corpus.test)) > 30_000
        assert b"import" in bytes(corpus.test)


class TestEvents:
    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("a.inter", "user_id:token\titem_id:token\ttimestamp:float\n7\t30\t2\n7\t10\t1\n9\t20\t5\n"),
            ("a.csv", "user,item,time\n7,30,2024-01-02\n7,10,2024-01-01\n9,20,2024-01-03\n"),
            ("a.txt", "7 10\n7 30\n9 20\n"),
            ("b.txt", "7 10 30\n9 20\n"),
        ],
    )
    def test_layouts(self, tmp_path: Path, name: str, content: str) -> None:
        events = read_events(write(tmp_path, content, name))
        assert events.labels == (10, 20, 30)
        assert events.values.tolist() == [0, 2, 1]
        assert events.offsets.tolist() == [0, 2, 3]
        assert (events.when_s is not None) == (name in ("a.inter", "a.csv"))

    def test_npz_and_text_ids(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", types=[5, 3, 5], offsets=[0, 1, 3], times=[0.0, 1.0, 2.0])
        events = read_events(tmp_path / "a.npz")
        assert (events.labels, events.values.tolist()) == ((3, 5), [1, 0, 1])
        events = read_events(write(tmp_path, "who,what\nann,tea\nbob,cake\nann,cake\n"), user="who", item="what")
        assert (events.labels, events.values.tolist(), events.offsets.tolist()) == (
            ("cake", "tea"),
            [1, 0, 0],
            [0, 2, 3],
        )

    def test_semicolons_leave_words_alone(self, tmp_path: Path) -> None:
        events = read_events(write(tmp_path, "user;item\n1;tea, black\n1;tea\n"))
        assert events.labels == ("tea", "tea, black")

    @pytest.mark.parametrize(
        ("name", "content", "says"),
        [
            ("a.csv", "who,what\n1,2\n", r"needs a user column such as user_id; it has who, what.*user="),
            ("a.csv", "user,item\n", "rows below the header"),
            ("a.csv", "user,item,time\n1,2,later\n", "times in column 'time'"),
            ("a.csv", "user,item\n1,2\n,3\n", "a user in every row; row 2"),
            ("a.csv", "user,item,time\n1,2,5\n1,3,nan\n", "row 2 has none"),
            ("a.txt", "1 2\n3\n", "line 2 of a.txt has fewer"),
            ("a.txt", "1 2 3\n1 4 5\n", "one line per user"),
            ("a.txt", b"\xff\xfe\x01", "UTF-8"),
            ("a.npz", b"not a zip", "items .or types. and offsets"),
        ],
    )
    def test_bad_events(self, tmp_path: Path, name: str, content: str | bytes, says: str) -> None:
        with pytest.raises(AttimeError, match=says) as caught:
            read_events(write(tmp_path, content, name))
        assert "\n" not in str(caught.value)

    def test_bad_arguments(self, tmp_path: Path) -> None:
        path = write(tmp_path, "user,item\n1,2\n")
        with pytest.raises(AttimeError, match="a column 'when'"):
            read_events(path, time="when")
        with pytest.raises(AttimeError, match="leave them out"):
            read_events(write(tmp_path, "1 2\n", "a.txt"), user="u")
        with pytest.raises(AttimeError, match="offsets that rise from 0"):
            Events(name="x", values=np.array([0]), offsets=np.array([0, 2]), labels=("a",))
        with pytest.raises(AttimeError, match="event numbers from 0 to 0"):
            Events(name="x", values=np.array([3]), offsets=np.array([0, 1]), labels=("a",))


class TestOthers:
    def test_tracks(self, tmp_path: Path) -> None:
        lines = [
            f"{10 * frame} {walker} {frame} {walker}"
            for frame in range(6)
            for walker in (1, 2)
            if (frame, walker) != (3, 2)
        ]
        tracks = read_tracks("walk", {"a": write(tmp_path, "\n".join(lines))})
        assert tracks.windows("a", 3).shape == (4 + 1, 3, 2)
        np.testing.assert_array_equal(tracks.windows("a", 6)[0, :, 0], range(6))
        assert tracks.windows("a", 7).shape == (0, 7, 2)
        with pytest.raises(AttimeError, match="no recording 'b'"):
            tracks.windows("b", 3)
        for content in ("1 2 3\n4 5 6\n", "a b c d\n"):
            with pytest.raises(AttimeError, match="frame walker x y"):
                read_tracks("walk", {"a": write(tmp_path, content)})

    def test_music_and_sounds(self, tmp_path: Path) -> None:
        pieces = read_pieces(
            write(tmp_path, '{"train": [[[60, -1]]], "valid": [[[61, 50]]], "test": [[[62, 50], [1, 2]]]}')
        )
        assert pieces.offsets.tolist() == [0, 1, 2, 4]
        for content in (
            "{}",
            "[",
            '{"train": [[[600]]], "valid": [], "test": []}',
            '{"train": [], "valid": [], "test": []}',
        ):
            with pytest.raises(AttimeError, match="music needs"):
                read_pieces(write(tmp_path, content))
        with pytest.raises(AttimeError, match="sounds need"):
            read_sounds(write(tmp_path, "x", "a.npz"))


class TestPublic:
    def test_unknown_name(self) -> None:
        with pytest.raises(AttimeError, match="no public data set 'ett-h9'; known are ett-h1, exchange-rate"):
            public("ett-h9")

    def test_every_file_has_a_checksum_and_an_origin_or_a_place(self) -> None:
        for name in public_names():
            for file in SOURCES[name].files:
                assert len(file.sha256) == 64
                assert file.origin is None or file.origin.count("/") >= 3
                assert not Path(file.path).is_absolute()
            assert SOURCES[name].licence

    def test_checksum_and_place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        content = gzip.compress(b"0.5,1.5\n0.6,1.6\n", mtime=0)
        source = Source("two rates", "none", File("rates/r.txt.gz", hashlib.sha256(content).hexdigest()))
        monkeypatch.setitem(SOURCES, "exchange-rate", source)
        monkeypatch.setenv("ATTIME_DATA", str(tmp_path))
        monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache")
        with pytest.raises(AttimeError, match=r"cannot be downloaded; put it at .*rates/r.txt.gz"):
            public("exchange-rate")
        (tmp_path / "rates").mkdir()
        write(tmp_path / "rates", content, "r.txt.gz")
        assert public("exchange-rate").about == "exchange-rate: 2 series of 2 steps"
        write(tmp_path / "rates", content + b"x", "r.txt.gz")
        with pytest.raises(AttimeError, match=r"SHA-256.*delete that file"):
            public_files("exchange-rate")

    def test_without_a_network(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refused(*args: object, **options: object) -> str:
            raise OSError("no route")

        monkeypatch.setenv("ATTIME_DATA", str(tmp_path))
        monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache")
        monkeypatch.setattr("pooch.retrieve", refused)
        with pytest.raises(
            AttimeError, match=r"https://raw.githubusercontent.com/zhouhaoyi/ETDataset/.*no route.*ATTIME_DATA"
        ):
            public("ett-h1")

    def test_downloads_land_in_the_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[str] = []

        def retrieve(url: str, *, known_hash: str, fname: str, path: Path) -> str:
            asked.append(url)
            path.mkdir(parents=True)
            return str(write(path, bytes(range(256)) * 9, fname))

        monkeypatch.delenv("ATTIME_DATA", raising=False)
        monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path)
        monkeypatch.setattr("pooch.retrieve", retrieve)
        assert "2,073 / 231 / 231 bytes" in public("tinyshakespeare").about
        assert asked == [f"https://raw.githubusercontent.com/{SOURCES['tinyshakespeare'].files[0].origin}"]
        assert (tmp_path / "tinyshakespeare" / "input.txt").is_file()

    def test_what_stands_beside_the_project(self) -> None:
        try:
            public_files("mimic2")
        except MissingData as error:
            pytest.skip(str(error))
        said = [public(name).about for name in ("ett-h1", "illness", "ml-100k", "stackoverflow", "mimic2", "jsb")]
        assert said == [
            "ett-h1: 7 series of 17,420 steps of 1h",
            "illness: 7 series of 966 steps of 1w",
            "ml-100k: 100,000 events of 1,682 kinds in 943 sequences",
            "stackoverflow: 480,414 events of 22 kinds in 6,633 sequences",
            "mimic2: 2,419 events of 75 kinds in 650 sequences",
            "jsb: 382 pieces, 92,536 steps of 4 voices",
        ]
        events = public("stackoverflow")
        assert isinstance(events, Events)
        assert events.part is not None
        assert ((events.part == TRAIN).sum(), (events.part == TEST).sum()) == (5307, 1326)
