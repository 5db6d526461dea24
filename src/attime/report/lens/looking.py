"""From a model and what it is given to a `Look`: run it once under a watch, name what stands along the maps, tell what heads do."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attime.control.contract import Call
from attime.errors import AttimeError
from attime.hub import watch
from attime.lens import attention_distance, sink_rate
from attime.report.lens.page import MOST, Axis, Look, Seen
from attime.site import Site, Where
from attime.streams.audio import Audio
from attime.streams.video import Video
from attime.streams.world.tell import WORDS
from attime.zoo import load
from attime.zoo.listener import Listener
from attime.zoo.painting import Painter
from attime.zoo.recall import Recaller
from attime.zoo.text import Bytes
from attime.zoo.watcher import Watcher

__all__ = ["look_at_model", "look_at_zoo"]

NEAR = 4  # tokens that a local head looks back on average, at most


def look_at_zoo(
    name: str, given: str, *, ask: str | None = None, where: Where | str | None = None, step: int | None = None
) -> Look:
    """A model of the zoo and a text, a file to read, tokens, a film or sound with a question, or a sentence to paint."""
    made = load(name)
    if isinstance(made, Bytes):
        data = list(_text(given).encode()[:MOST])
        labels = [chr(byte) if 32 < byte < 127 else {10: "↵", 32: "␣"}.get(byte, f"x{byte:02x}") for byte in data]
        return _words(made.model, f"zoo:{name} reads {_short(given)}", data, labels, where)
    if isinstance(made, Recaller):
        try:
            data = [int(number) for number in given.replace(",", " ").split()]
        except ValueError:
            raise AttimeError(f"zoo:{name} reads numbers of tokens, such as '3 70 150 3'; got {given!r}.") from None
        answer = int(made.answer(torch.tensor([data]))[0, 0])
        look = _words(made.model, f"zoo:{name} reads {_short(given)}", data, list(map(str, data)), where)
        return Look(title=look.title, answer=f"next: {answer}", axes=look.axes, heads=look.heads)
    if isinstance(made, Painter):
        return _painted(made, name, given, where, 8 if step is None else step)
    if ask is None:
        raise AttimeError(f"zoo:{name} is asked something: --ask 'what does the red square do ?'.")
    if isinstance(made, Watcher):
        return _watched(made, name, given, ask, where)
    assert isinstance(made, Listener)
    return _heard(made, name, given, ask, where)


def look_at_model(path: str, given: str, *, where: Where | str | None = None) -> Look:
    """A language model of transformers, from a folder or hub id, and a text or a file to read."""
    from attime.hub.opened import token_labels
    from attime.hub.stream import text_model

    model, encode = text_model(path)
    data = _text(given).encode()
    ids = torch.cat([encode(data), encode(b"")])[:MOST].tolist() if data else []
    labels = token_labels(path, ids)
    return _words(model, f"{path} reads {_short(given)}", ids, labels, where)


def _words(model: Any, title: str, ids: Sequence[int], labels: Sequence[str], where: Where | str | None) -> Look:
    if not ids:
        raise AttimeError("there is nothing to look at: the text is empty.")
    axes = {"text": Axis(labels=labels)}
    heads = _seen(
        model, lambda: model(input_ids=torch.tensor([list(ids)])), where, lambda call: ("text", "text"), axes, ids=ids
    )
    return Look(title=title, axes=axes, heads=heads)


def _painted(made: Painter, name: str, prompt: str, where: Where | str | None, step: int) -> Look:
    """Maps of one denoising step; pictures are those of the clip that comes of it in the end."""
    clip = made.paint(prompt)[0]
    deep = max(1, len(clip) // _depth(made, len(clip)))
    pictures = list(clip[::deep])
    words = (*prompt.split(), *["<pad>"] * 8)
    axes: dict[str, Axis] = {}

    def along(call: Call) -> tuple[str, str]:
        layout, count = call.layout, call.k.shape[2]
        frames = len(pictures) if layout is None or layout.frames == 1 else layout.frames
        names = {"temporal": "frames", "spatial": "places", "joint": "clip", "cross": "clip"}
        rows = names[call.site.kind]
        if rows == "clip" and call.q.shape[2] == len(axes.get("places", Axis(labels=())).labels):
            rows = "places"
        if rows not in axes:
            places = call.q.shape[2] // (frames if rows in ("clip", "frames") else 1)
            axes[rows] = {
                "frames": lambda: Axis(labels=[f"frame {each}" for each in range(frames)], frames=range(frames)),
                "places": lambda: Axis(labels=[f"place {each}" for each in range(places)]),
                "clip": lambda: Axis(
                    labels=[f"{frame}·{place}" for frame in range(frames) for place in range(places)],
                    frames=[frame for frame in range(frames) for _ in range(places)],
                ),
            }[rows]()
        if call.site.kind == "cross":
            axes.setdefault("words", Axis(labels=words[:count]))
            return rows, "words"
        return rows, rows

    heads = _seen(made.model, lambda: made.paint(prompt), where, along, axes, step=step)
    return Look(title=f"zoo:{name} paints “{prompt}”, step {step}", axes=axes, heads=heads, frames=pictures)


def _watched(made: Watcher, name: str, film: str, ask: str, where: Where | str | None) -> Look:
    """One pass over the clip, the question and the answer that the model gives; the clip is the film's first 4 s."""
    frames = Video(film).at(np.arange(16) / 4)
    answer = str(made.ask(frames, ask))
    inputs = made.inputs(frames, f"{ask} {answer}")
    ids = inputs["input_ids"][0].tolist()
    config: Any = made.model.config
    depth, rows, columns = inputs["video_grid_thw"][0].tolist()
    labels, shown = list[str](), list[int]()
    for number in ids:
        seen = sum(each >= 0 for each in shown)
        is_seen = number == config.video_token_id
        shown.append(seen // (rows * columns) if is_seen else -1)
        labels.append(
            f"{shown[-1]}·{seen % (rows * columns)}" if is_seen else WORDS[number] if number < len(WORDS) else "|"
        )
    pictures = list(frames[:: len(frames) // depth])
    axes = {
        "tokens": Axis(labels=labels, frames=shown),
        "patches": Axis(labels=[f"patch {place}" for place in range(rows * columns)]),
    }

    def along(call: Call) -> tuple[str, str]:
        return ("patches", "patches") if call.site.part == "vision" else ("tokens", "tokens")

    heads = _seen(made.model, lambda: made.model(**inputs, use_cache=False), where, along, axes)
    return Look(title=f"zoo:{name} is asked: {ask}", answer=answer, axes=axes, heads=heads, frames=pictures)


def _heard(made: Listener, name: str, sound: str, ask: str, where: Where | str | None) -> Look:
    """One pass over the first 4 s of sound, the question and the answer that the model gives."""
    audio = Audio(sound)
    samples = audio.read(0.0, 4.0, mono=True).reshape(-1)
    answer = made.ask(samples, ask, rate=audio.rate)
    inputs = made.inputs(samples, f"{ask} {answer}", rate=audio.rate)
    words = ["<start>", *(WORDS[number] for number in inputs["decoder_input_ids"][0, 1:].tolist())]
    times = inputs["input_features"].shape[-1] // 2
    axes = {"words": Axis(labels=words), "sound": Axis(labels=[f"{4 * each / times:.2f} s" for each in range(times)])}

    def along(call: Call) -> tuple[str, str]:
        return "sound" if call.site.part == "encoder" else "words", "words" if (call.site.part, call.site.kind) == (
            "decoder",
            "self",
        ) else "sound"

    heads = _seen(made.model, lambda: made.model(**inputs), where, along, axes)
    return Look(title=f"zoo:{name} is asked: {ask}", answer=answer, axes=axes, heads=heads)


def _seen(
    model: Any,
    run: Callable[[], Any],
    where: Where | str | None,
    along: Callable[[Call], tuple[str, str]],
    axes: Mapping[str, Axis],
    *,
    step: int | None = None,
    ids: Sequence[int] = (),
) -> list[Seen]:
    """Every head of every site in one step: the mean over places or frames where each has its own row or call, else the last row."""
    named: list[tuple[str, str]] = []

    def kept(call: Call) -> Tensor | None:
        if step is not None and call.step != step:
            return None
        named.append(along(call))
        maps = call.maps
        return maps.mean(0) if call.site.kind in ("temporal", "spatial") else maps[-1]

    with torch.no_grad(), watch(model, where=where, keep=kept) as seen:
        run()
    calls: dict[Site, tuple[list[Tensor], tuple[str, str]]] = {}
    for record, names in zip(seen, named, strict=True):
        calls.setdefault(record.site, ([], names))[0].append(record.value.float())
    found = []
    for site, (values, (rows, columns)) in calls.items():
        mean = torch.stack(values).mean(0) if site.kind == "spatial" else values[-1]
        for head, weights in enumerate(mean):
            found.append(
                Seen(
                    part=site.part,
                    kind=site.kind,
                    layer=site.layer,
                    head=head,
                    site=site.name,
                    weights=weights.numpy(),
                    rows=rows,
                    columns=columns,
                    roles=_roles(weights, axes[columns], square=rows == columns, ids=ids),
                )
            )
    if not found:
        raise AttimeError(f"nothing was seen: the model makes no step {step}.")
    return found


def _roles(weights: Tensor, axis: Axis, *, square: bool, ids: Sequence[int]) -> dict[str, float]:
    """What a head does, and how much of it, as far as its map tells."""
    maps, roles = weights[None, None].double(), dict[str, float]()
    if not square or len(weights) < 3:
        return roles
    if axis.frames is not None and max(axis.frames) > 0:
        frame = torch.tensor(list(axis.frames))
        both = (frame[:, None] >= 0) & (frame >= 0)
        apart = (both & (frame[:, None] != frame)).double()
        mass = (maps[0, 0] * both).sum()
        if mass > 0 and float((maps[0, 0] * apart).sum() / mass) > 0.5:
            roles["temporal"] = float((maps[0, 0] * apart).sum() / mass)
    if float(weights.triu(1).sum()) > 1e-3 * len(weights):
        return roles
    received = float(maps[0, 0, 1:, 0].mean())
    if float(sink_rate(maps)[0]):
        roles["sink"] = received
    elif float(attention_distance(maps).mean()) <= NEAR:
        roles["local"] = float((maps[0, 0] * torch.ones_like(weights).tril().triu(-NEAR)).sum(-1).mean())
    copied = _copied(maps[0, 0], ids)
    if copied > 0.3:
        roles["retrieval"] = copied
    return roles


def _copied(weights: Tensor, ids: Sequence[int]) -> float:
    """Attention of tokens that have been there before to what followed them, mean over these tokens."""
    found = []
    for now in range(2, len(ids)):
        after = [place + 1 for place in range(now - 1) if ids[place] == ids[now]]
        if after:
            found.append(float(weights[now, after].sum()))
    return float(np.mean(found)) if len(found) > 1 else 0.0


def _depth(made: Painter, frames: int) -> int:
    """Frames as the model's tokens count them."""
    config: Any = made.model.config
    patch = config.patch_size
    return frames // (patch[0] if isinstance(patch, (tuple, list)) else 1)


def _text(given: str) -> str:
    """A file's text, or the words themselves."""
    try:
        is_file = Path(given).is_file()
    except OSError:
        is_file = False
    return Path(given).read_text(encoding="utf-8", errors="replace") if is_file else given


def _short(given: str) -> str:
    return given if len(given) <= 40 else f"{given[:37]}..."
