"""Comparisons made up for the tests of the report: plausible numbers, none of them measured."""

from dataclasses import replace
from math import exp

from attime.tasks.result import Comparison, Point, Row

KIB, MIB = 1024, 1024**2
# name, quality, state at 1k and at 64k, step ms at 1k and at 64k, train tokens/s
MIXERS = [
    ("Softmax", 1.412, 2 * MIB, 128 * MIB, 0.61, 14.8, 21_400),
    ("SlidingWindow(window=64, sinks=4)", 1.498, 136 * KIB, 136 * KIB, 0.42, 0.43, 24_900),
    ("Taylor+SlidingWindow(window=64)", 1.449, 610 * KIB, 610 * KIB, 0.71, 0.72, 15_200),
    ("Decay", 1.471, 66 * KIB, 66 * KIB, 0.38, 0.38, 27_300),
    ("GatedDelta", 1.438, 68 * KIB, 68 * KIB, 0.55, 0.55, 17_800),
    ("Selective", 1.502, 20 * KIB, 20 * KIB, 0.49, 0.49, 11_300),
    ("NeuralMemory", 1.466, 264 * KIB, 264 * KIB, 1.62, 1.63, 4_100),
    ("ChunkGated(chunk=16)", 1.521, 34 * KIB, 34 * KIB, 0.44, 0.44, 22_800),
    ("HashedBlocks", 1.477, 2 * MIB, 129 * MIB, 0.93, 3.9, 9_600),
]
FLOORS = [("trigram", 1.914), ("bigram", 2.283), ("gzip of the past", 2.02), ("unigram", 3.104)]


def curve(
    end: float, *, start: float = 3.4, rate: float, points: int = 24, tokens: int = 2_000_000
) -> tuple[Point, ...]:
    """A loss that falls quickly, then slowly, with a ripple."""
    out = []
    for step in range(1, points + 1):
        share = step / points
        loss = end + (start - end) * exp(-5.5 * share) + 0.012 * ((step * 7) % 5 - 2) * (1 - share)
        seen = int(tokens * share)
        out.append(Point(step=step * 50, seconds=seen / rate, tokens=seen, loss=loss - 0.03, quality=loss))
    return tuple(out)


def mixer(name: str, quality: float, near: int, far: int, quick: float, slow: float, rate: float) -> Row:
    return Row(
        name=name,
        kind="mixer",
        scores={"bits per byte": quality, "accuracy": round(1.02 - quality / 3, 3)},
        quality=quality,
        part=name,
        options={"mixer": name, "dim": 128, "heads": 4, "layers": 2, "vocabulary": 256, "channels": None},
        parameters=421_632,
        train_tokens_per_s=rate,
        step_ms={1024: quick, 65536: slow},
        state_bytes={1024: near, 65536: far},
        peak_bytes=180 * MIB + far // 4,
        curve=curve(quality, rate=rate),
    )


def judged(rows: list[Row]) -> tuple[Row, ...]:
    """Marks of the test data, lower being better: the Pareto front, and the best as winner."""
    mixers = [row for row in rows if row.quality is not None and row.kind == "mixer" and row.status == "done"]
    best = min(mixers, key=lambda row: row.quality or 0.0, default=None)

    def beaten(row: Row) -> bool:
        ours = (row.quality or 0.0, row.state_bytes[65536])
        theirs = [(each.quality or 0.0, each.state_bytes[65536]) for each in mixers]
        return any(q <= ours[0] and b <= ours[1] and (q, b) != ours for q, b in theirs)

    marked = [replace(row, pareto=row in mixers and not beaten(row), winner=row is best) for row in rows]
    return tuple(marked)


def full() -> Comparison:
    """Nine mixers, four floors, all finished."""
    floors = [Row(name=name, kind="floor", scores={"bits per byte": q}, quality=q) for name, q in FLOORS]
    return Comparison(
        protocol="enwik-like/bytes-512",
        metric="bits per byte",
        unit="bits",
        better="lower",
        rows=judged([*(mixer(*values) for values in MIXERS), *floors]),
        answer="Use Softmax: 1.412 bits, 0.502 (26.2%) better than the best floor (trigram) and 0.026 (1.8%) better than "
        "the next mixer (GatedDelta).",
        data="made-up text of 4 MB for testing the report; last 10 % held out, half for validation and half for the test",
        settings={
            "steps": 1200,
            "seconds": None,
            "batch": 8,
            "learning_rate": 0.002,
            "seed": 0,
            "threads": 1,
            "dim": 128,
        },
        machine={"system": "Linux x86_64", "cores": 2, "python": "3.11.7", "torch": "2.13.0"},
        command="attime compare text --bytes book.txt --steps 1200",
        attime="0.1.0",
    )


def limited() -> Comparison:
    """The same with limits that leave Softmax out."""
    whole = full()
    rows = [
        replace(
            row,
            within_limits=max(row.state_bytes.values(), default=0) <= MIB,
            winner=row.name == "GatedDelta",
        )
        for row in whole.rows
    ]
    return replace(
        whole,
        rows=tuple(rows),
        limits={"max_state_bytes": MIB, "max_step_ms": 5.0},
        answer="Use GatedDelta: 1.438 bits, 0.476 (24.9%) better than the best floor (trigram) and 0.011 (0.8%) better than "
        "the next mixer within the limits (Taylor+SlidingWindow(window=64)).",
    )


def partial() -> Comparison:
    """One trial failed, one was interrupted in the middle, one before its first step."""
    whole = limited()
    rows = {row.name: row for row in whole.rows}
    empty = {"quality": None, "scores": {}, "pareto": False, "step_ms": {}}
    failed = "the loss became NaN at step 310; lower --learning-rate."
    rows["NeuralMemory"] = replace(rows["NeuralMemory"], status="failed", error=failed, **empty)
    decay = rows["Decay"]
    rows["Decay"] = replace(decay, status="partial", curve=decay.curve[:11], **empty)
    rows["HashedBlocks"] = Row(name="HashedBlocks", kind="mixer", status="partial")
    return replace(whole, rows=tuple(rows.values()), partial=True)


def one_row() -> Comparison:
    return replace(full(), rows=judged([mixer(*MIXERS[3])]), answer="Use Decay: 1.471 bits.")


def thirty() -> Comparison:
    """Thirty mixers, many of them close to one another."""
    rows = [
        mixer(
            f"{MIXERS[i % 9][0].split('(')[0]}(order={i})",
            1.40 + 0.013 * ((i * 7) % 11),
            (8 + 9 * (i % 6)) * KIB,
            (8 + 9 * (i % 6)) * KIB * (1 if i % 4 else 64),
            0.3 + 0.05 * (i % 7),
            0.3 + 0.05 * (i % 7) + (0 if i % 4 else 7 + i / 5),
            9000 + 700 * i,
        )
        for i in range(30)
    ]
    floors = [Row(name=name, kind="floor", scores={"bits per byte": q}, quality=q) for name, q in FLOORS]
    return replace(full(), rows=judged([*rows, *floors]))


def nothing_finished() -> Comparison:
    rows = [Row(name=name, kind="mixer", status="failed", error="out of memory.") for name, *_ in MIXERS[:3]]
    floors = [Row(name=name, kind="floor", quality=q) for name, q in FLOORS]
    answer = "No mixer finished; run the same command again to go on."
    return replace(full(), rows=(*rows, *floors), answer=answer, partial=True, machine={}, settings={})


def nothing_beats_the_floor() -> Comparison:
    """A score of which more is better, and a floor above all mixers."""
    rows = []
    for row in full().rows:
        share = (
            round(1 - (row.quality or 0.0) / 3, 3)
            if row.kind == "mixer"
            else round(0.75 - (row.quality or 0.0) / 10, 3)
        )
        points = tuple(replace(point, quality=1 - (point.quality or 0.0) / 3) for point in row.curve)
        rows.append(replace(row, quality=share, scores={"accuracy": share}, pareto=False, curve=points))
    answer = "Nothing beats the floor in this budget: trigram has 0.559, the best mixer, Softmax, 0.529."
    return replace(full(), rows=tuple(rows), metric="accuracy", unit="", better="higher", answer=answer)


def hostile() -> Comparison:
    """Names that are markup somewhere: HTML, plotly, rich, Markdown, templates."""
    names = [
        "<script>alert(1)</script>",
        "</script><b>bold</b>",
        "[red]rich[/red] & co",
        "a|b`c`*d*_e_",
        "{{ 7*7 }} %{x}",
        "\"quoted\" 'name'",
        "<a href='x'>link</a>",
    ]
    rows = [mixer(name, *values[1:]) for name, values in zip(names, MIXERS, strict=False)]
    rows[1] = replace(rows[1], status="failed", error="<img src=x onerror=alert(2)> broke", quality=None)
    floors = [Row(name="<i>floor</i> & more", kind="floor", quality=1.9)]
    return replace(
        full(),
        rows=judged([*rows, *floors]),
        answer="Use <script>alert(1)</script>: 1.412 bits & more.",
        protocol="p<q>&r",
        data="</title><script>alert(3)</script>",
        command="attime compare '<b>' && echo \"hi\"",
        settings={"<k>": "<v>"},
    )


ALL = (full, limited, partial, one_row, thirty, nothing_finished, nothing_beats_the_floor, hostile)
