"""The zoo's models: bytes, tokens, a film or sound with a question, a sentence to paint."""

from typing import Any

import torch

from attime.control.call import Call
from attime.errors import AttimeError
from attime.report.lens.given import Wish, film, first, short, sound, text
from attime.report.lens.page import Axis, Look
from attime.report.lens.pictures import patches
from attime.report.lens.seen import Side, see
from attime.report.lens.texts import read
from attime.streams.world.tell import WORDS
from attime.zoo import load
from attime.zoo.listener import Listener
from attime.zoo.painting import Painter
from attime.zoo.recall import Recaller
from attime.zoo.text import Bytes
from attime.zoo.watcher import Watcher

__all__ = ["look"]

STEP = 8
"""Of a painter's 20 steps the one that is shown."""
FPS, SECONDS = 4, 4.0


def look(name: str, wish: Wish) -> Look:
    """A model of the zoo, whichever it is."""
    made = load(name)
    if wish.step is not None and not isinstance(made, Painter):
        raise AttimeError(f"--step is a denoising step, and zoo:{name} paints nothing: leave it out.")
    asks = isinstance(made, (Watcher, Listener))
    if asks and wish.ask is None:
        raise AttimeError(f"zoo:{name} is asked something: --ask 'what does the red square do ?'.")
    if not asks and wish.ask is not None:
        raise AttimeError(f"zoo:{name} is given its INPUT alone: leave out --ask.")
    if not asks and wish.seconds is not None:
        raise AttimeError(f"--seconds is for film and sound, and zoo:{name} is given words: leave it out.")
    title = f"zoo:{name} reads {short(wish.given)}"
    if isinstance(made, Bytes):
        data, notes = first(list(text(wish.given).encode()), wish)
        labels = [chr(byte) if 32 < byte < 127 else {10: "↵", 32: "␣"}.get(byte, f"x{byte:02x}") for byte in data]
        return read(made.model, title, data, labels, wish, notes)
    if isinstance(made, Recaller):
        return _recalled(made, name, title, wish)
    if isinstance(made, Painter):
        return _painted(made, name, wish)
    if isinstance(made, Watcher):
        return _watched(made, name, wish)
    assert isinstance(made, Listener)
    return _heard(made, name, wish)


def _recalled(made: Recaller, name: str, title: str, wish: Wish) -> Look:
    try:
        data = [int(number) for number in text(wish.given).replace(",", " ").split()]
    except ValueError:
        raise AttimeError(
            f"zoo:{name} reads numbers of tokens, such as '3 70 150 3'; got {short(wish.given)!r}."
        ) from None
    data, notes = first(data, wish)
    answer = int(made.answer(torch.tensor([data]))[0, 0])
    look = read(made.model, title, data, list(map(str, data)), wish, notes)
    return Look(title=look.title, answer=f"next: {answer}", axes=look.axes, heads=look.heads, notes=notes)


def _painted(made: Painter, name: str, wish: Wish) -> Look:
    """Maps of one denoising step, of the run with words; pictures are those of the clip that comes of it in the end."""
    step = STEP if wish.step is None else wish.step
    words = (*wish.given.split(), *["<pad>"] * 8)
    sides: dict[str, Side] = {}

    def along(call: Call) -> tuple[str, str]:
        layout, count = call.layout, call.q.shape[2]
        assert layout is not None
        frames, places, wide = layout.frames, layout.places, layout.wide or 1
        clip = frames if frames > 1 or call.site.kind == "temporal" else 1
        rows = "frames" if call.site.kind == "temporal" else "clip" if clip > 1 else "places"
        if rows not in sides:
            grid = (places // wide, wide) if rows != "frames" else None
            frame = [each for each in range(clip) for _ in range(places)] if rows != "places" else [0] * count
            place = [each for _ in range(clip) for each in range(places)]
            names = [f"{one}·{other}" for one, other in zip(frame, place, strict=True)]
            names = {"frames": [f"frame {each}" for each in frame], "places": [f"place {each}" for each in place]}.get(
                rows, names
            )
            sides[rows] = Side(axis=Axis(labels=names, frames=frame, cells=None if grid is None else place, grid=grid))
        if call.site.kind == "cross":
            sides.setdefault("words", Side(axis=Axis(labels=words[: call.k.shape[2]])))
            return rows, "words"
        return rows, rows

    heads, clips = see(
        made.model, lambda: made.paint(wish.given), along, sides, where=wish.where, step=step, clips=True
    )
    clip = clips[0]
    config: Any = made.model.config
    deep = config.patch_size[0] if isinstance(config.patch_size, (tuple, list)) else 1
    notes = ["Of the two runs of a step, with words and without, the one with words is shown."]
    if any(head.kind in ("spatial", "temporal") for head in heads):
        notes.append("Spatial maps are the mean over frames, drawn on the first, temporal ones the mean over places.")
    return Look(
        title=f"zoo:{name} paints “{wish.given}”, step {step} (of 0 to 19)",
        axes={name: side.axis for name, side in sides.items()},
        heads=heads,
        frames=list(clip[::deep]),
        notes=notes,
    )


def _watched(made: Watcher, name: str, wish: Wish) -> Look:
    """One pass over the clip, the question and the answer that the model gives."""
    frames, notes = film(wish, fps=FPS, seconds=SECONDS)
    ask = str(wish.ask)
    answer = str(made.ask(frames, ask))
    inputs = made.inputs(frames, f"{ask} {answer}")
    ids = inputs["input_ids"][0].tolist()
    config: Any = made.model.config
    depth, rows, columns = inputs["video_grid_thw"][0].tolist()
    if len(ids) > wish.most:
        raise AttimeError(
            f"{depth} moments and the question make {len(ids)} tokens, more than --tokens {wish.most}: take fewer --seconds."
        )
    if wish.seconds is not None and wish.seconds != SECONDS:
        notes.append(f"The watcher has learnt from clips of {SECONDS:g} s and knows no others.")
    labels, shown, place = list[str](), list[int](), list[int]()
    for number in ids:
        seen = sum(each >= 0 for each in shown)
        is_seen = number == config.video_token_id
        shown.append(seen // (rows * columns) if is_seen else -1)
        place.append(seen % (rows * columns) if is_seen else -1)
        labels.append(f"{shown[-1]}·{place[-1]}" if is_seen else WORDS[number] if number < len(WORDS) else "|")
    notes.append("Maps of the vision tower are the mean over moments, drawn on the first.")
    sides = {
        "tokens": Side(axis=Axis(labels=labels, frames=shown, cells=place, grid=(rows, columns))),
        "patches": patches(rows, columns, rows * columns, wish.most, notes),
    }

    def along(call: Call) -> tuple[str, str]:
        return ("patches", "patches") if call.site.part == "vision" else ("tokens", "tokens")

    heads, _ = see(made.model, lambda: made.model(**inputs, use_cache=False), along, sides, where=wish.where)
    return Look(
        title=f"zoo:{name} is asked: {ask}",
        answer=answer,
        axes={name: side.axis for name, side in sides.items()},
        heads=heads,
        frames=list(frames[:: -(-len(frames) // depth)]),
        notes=notes,
    )


def _heard(made: Listener, name: str, wish: Wish) -> Look:
    """One pass over the sound, the question and the answer that the model gives."""
    samples, rate, notes = sound(wish, rate=None, seconds=SECONDS)
    ask = str(wish.ask)
    answer = made.ask(samples, ask, rate=rate)
    inputs = made.inputs(samples, f"{ask} {answer}", rate=rate)
    words = ["<start>", *(WORDS[number] for number in inputs["decoder_input_ids"][0, 1:].tolist())]
    times = inputs["input_features"].shape[-1] // 2
    sides = {
        "words": Side(axis=Axis(labels=words)),
        "sound": Side(axis=Axis(labels=[f"{SECONDS * each / times:.2f} s" for each in range(times)])),
    }

    def along(call: Call) -> tuple[str, str]:
        rows = "sound" if call.site.part == "encoder" else "words"
        return rows, "words" if (call.site.part, call.site.kind) == ("decoder", "self") else "sound"

    heads, _ = see(made.model, lambda: made.model(**inputs), along, sides, where=wish.where)
    return Look(
        title=f"zoo:{name} is asked: {ask}",
        answer=answer,
        axes={name: side.axis for name, side in sides.items()},
        heads=heads,
        notes=notes,
    )
