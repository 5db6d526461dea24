"""Qwen2.5-VL, LLaVA-OneVision and their like: a picture or film, a question, and the answer that the model begins with."""

import inspect
from math import ceil
from typing import Any

import numpy as np
import torch

from attime.control.call import Call
from attime.errors import AttimeError
from attime.report.lens.given import Wish, film, known, short
from attime.report.lens.page import Axis, Look
from attime.report.lens.pictures import patches
from attime.report.lens.seen import Side, cells, see
from attime.zoo.qwen_video import patchify

__all__ = ["look", "windowed"]

SECONDS, FPS = 4.0, {"qwen": 2.0, "llava": 1.0}
ANSWER = 16
"""Most tokens of the answer."""


def look(model: Any, path: str, wish: Wish) -> Look:
    """One pass over the clip, the question and the answer."""
    from attime.hub.opened import Words, pixels

    if wish.ask is None:
        raise AttimeError(f"{path} is asked something: --ask 'what happens ?'.")
    config, vision = model.config, model.config.vision_config
    merging = hasattr(vision, "spatial_merge_size")
    frames, notes = film(wish, fps=FPS["qwen" if merging else "llava"], seconds=SECONDS)
    mark = next(getattr(config, name) for name in ("video_token_id", "video_token_index") if hasattr(config, name))
    words, sides = Words(path), dict[str, Side]()
    room = max(8, wish.most - 64)
    if merging:
        size = _sized(frames, vision, room)
        _, shown, _ = pixels(path, frames, size, whole=False)
        values, grid = patchify(torch.from_numpy(shown[None].copy()), vision)
        slices, rows, columns = grid[0].tolist()
        merge = vision.spatial_merge_size
        seen = [
            config.vision_start_token_id,
            *[mark] * (slices * rows * columns // merge**2),
            config.vision_end_token_id,
        ]
        inputs: dict[str, Any] = {"pixel_values_videos": values, "video_grid_thw": grid}
        pictures, places = list(shown[:: vision.temporal_patch_size]), (rows // merge, columns // merge)
        order = windowed(rows, columns, merge, vision.window_size // vision.patch_size // merge)
    else:
        side = int(vision.image_size)
        values, shown, _ = pixels(path, frames, (side, side))
        rows = columns = side // int(vision.patch_size)
        inputs = {"pixel_values_videos": values[None]}
        pictures, places, order = list(shown), (ceil(rows / 2), ceil(columns / 2)), None
        seen = [mark] * (len(pictures) * places[0] * places[1] + 1)
    moments = f"{len(pictures)} moments are seen, each" if len(pictures) > 1 else "The picture is seen"
    notes.append(f"{moments} as {shown.shape[1]} x {shown.shape[2]} pixels.")
    ids = known(words.asked(wish.ask, seen), model)
    answer = _answered(model, _inputs(model, ids, mark, inputs), words, mark)
    ids = [*ids, *answer]
    sides["tokens"] = _tokens(ids, mark, words, len(pictures), places, room, notes)

    def along(call: Call) -> tuple[str, str]:
        if call.site.part != "vision":
            return "tokens", "tokens"
        if "patches" not in sides:
            side = patches(rows, columns, rows * columns if order else call.k.shape[2], wish.most, notes)
            there = side.groups if order is None or side.groups is None else [side.groups[place] for place in order]
            sides["patches"] = Side(axis=side.axis, groups=there)
            if len(pictures) > 1:
                notes.append("Maps of the vision tower are the mean over moments, drawn on the first.")
        return "patches", "patches"

    whole = _inputs(model, ids, mark, inputs)
    heads, _ = see(model, lambda: model(**whole, use_cache=False), along, sides, where=wish.where)
    return Look(
        title=f"{path} is asked about {short(wish.given)}: {wish.ask}",
        answer=words.decode(answer) or "(nothing)",
        axes={name: side.axis for name, side in sides.items()},
        heads=heads,
        frames=pictures,
        notes=notes,
    )


def windowed(rows: int, columns: int, merge: int, window: int) -> list[int]:
    """The places of patches, line by line, in the order in which Qwen2.5-VL's tower has them: window by window of `window` merged
    patches a side, in it line by line, the patches of a merged one together."""
    units = sorted(
        (row // window, column // window, row, column)
        for row in range(rows // merge)
        for column in range(columns // merge)
    )
    return [
        (row * merge + below) * columns + column * merge + right
        for _, _, row, column in units
        for below in range(merge)
        for right in range(merge)
    ]


def _sized(frames: np.ndarray[Any, Any], vision: Any, room: int) -> tuple[int, int]:
    """Height and width, multiples of a merged patch, so that all moments have room for their tokens."""
    unit = vision.patch_size * vision.spatial_merge_size
    height, width = frames.shape[1:3]
    moments = ceil(len(frames) / vision.temporal_patch_size)
    scale = min(1.0, (room / moments * unit**2 / (height * width)) ** 0.5)
    return max(1, int(height * scale / unit)) * unit, max(1, int(width * scale / unit)) * unit


def _inputs(model: Any, ids: list[int], mark: int, seen: dict[str, Any]) -> dict[str, Any]:
    tokens = torch.tensor([ids])
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), **seen}
    if "mm_token_type_ids" in inspect.signature(model.forward).parameters:
        inputs["mm_token_type_ids"] = 2 * (tokens == mark).int()
    return inputs


def _answered(model: Any, inputs: dict[str, Any], words: Any, mark: int) -> list[int]:
    """The likeliest tokens but `mark`, which stands for what is seen, up to the end or so many."""
    ends = {words.tokenizer.eos_token_id, words.tokenizer.pad_token_id}
    with torch.no_grad():
        made = model.generate(
            **inputs,
            max_new_tokens=ANSWER,
            do_sample=False,
            pad_token_id=words.tokenizer.pad_token_id or 0,
            suppress_tokens=[mark],
        )
    said = made[0, inputs["input_ids"].shape[1] :].tolist()
    return said[: next((place for place, each in enumerate(said) if each in ends), len(said))]


def _tokens(
    ids: list[int], mark: int, words: Any, moments: int, places: tuple[int, int], room: int, notes: list[str]
) -> Side:
    """All tokens, those of a moment joined until there is room for them."""
    grid, there, step = cells(*places, max(1, room // moments))
    if step > 1:
        notes.append(f"Tokens of a moment are shown {step} x {step} together: --tokens shows more.")
    labels, frames, where, groups = list[str](), list[int](), list[int](), list[int]()
    total, count, begins, names = len(there), 0, dict[tuple[int, int], int](), iter(words.labels(ids))
    for number, name in zip(ids, names, strict=True):
        moment, place = divmod(count, total)
        seen = number == mark and moment < moments
        count += number == mark
        key = (moment, there[place]) if seen else (-1, len(labels))
        if key not in begins:
            begins[key] = len(labels)
            labels.append(f"{key[0]}·{key[1]}" if seen else name)
            frames.append(key[0] if seen else -1)
            where.append(key[1] if seen else -1)
        groups.append(begins[key])
    return Side(axis=Axis(labels=labels, frames=frames, cells=where, grid=grid), groups=groups)
