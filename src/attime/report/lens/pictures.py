"""ViT, CLIP, SigLIP and their like, and a picture or the frames of a film; with --ask, words for those that read as well."""

from typing import Any

import torch

from attime.control.call import Call
from attime.errors import AttimeError
from attime.report.lens.given import Wish, film, first, short
from attime.report.lens.page import Axis, Look
from attime.report.lens.seen import Side, cells, see

__all__ = ["look", "patches"]

FPS, SECONDS = 2.0, 4.0


def look(model: Any, path: str, wish: Wish) -> Look:
    """One pass over the picture, or over all frames at once."""
    from attime.hub.opened import Words, pixels

    config = getattr(model.config, "vision_config", model.config)
    size, patch = (_pair(getattr(config, name, None), name, path) for name in ("image_size", "patch_size"))
    frames, notes = film(wish, fps=FPS, seconds=SECONDS)
    given, shown, own = pixels(path, frames, size)
    if not own:
        notes.append(f"Pictures are scaled to {size[0]} x {size[1]} pixels, as the folder has no processor that could.")
    if len(frames) > 1:
        notes.append(f"Maps are the mean over {len(frames)} frames, each seen by itself; they are drawn on the first.")
    rows, columns = size[0] // patch[0], size[1] // patch[1]
    sides: dict[str, Side] = {}
    inputs: dict[str, Any] = {"pixel_values": given}
    run = lambda: model(**inputs)  # noqa: E731
    if hasattr(model.config, "text_config"):
        if wish.ask is None:
            run = lambda: model.get_image_features(**inputs)  # noqa: E731
            notes.append("Only the picture is given; --ask 'a photo of a cat' gives words to the text tower.")
        else:
            words = Words(path)
            whole = words.encode(wish.ask, marked=True)
            ids, cut = first(whole, wish, model)
            if whole[-1] == words.tokenizer.eos_token_id:
                ids = [*ids[:-1], whole[-1]]  # it is where these models say what they have read
            notes += cut
            inputs["input_ids"] = torch.tensor([ids])
            sides["words"] = Side(axis=Axis(labels=words.labels(ids)))
    elif wish.ask is not None:
        raise AttimeError(f"{path} sees and does not read: leave out --ask.")

    def along(call: Call) -> tuple[str, str]:
        if call.site.part == "text":
            return "words", "words"
        name = f"patches {call.k.shape[2]}"
        if name not in sides:
            sides[name] = patches(rows, columns, call.k.shape[2], wish.most, notes)
        return name, name

    heads, out = see(model, run, along, sides, where=wish.where)
    return Look(
        title=f"{path} sees {short(wish.given)}" + (f" and reads “{wish.ask}”" if wish.ask else ""),
        answer=_answer(model, out),
        axes={name: side.axis for name, side in sides.items()},
        heads=heads,
        frames=list(shown),
        notes=notes,
    )


def patches(rows: int, columns: int, tokens: int, most: int, notes: list[str]) -> Side:
    """The patches of one picture, behind whatever tokens are no patches; a bare row of places where that cannot be."""
    extra = tokens - rows * columns
    if not 0 <= extra < 16:
        labels = [f"place {place}" for place in range(min(tokens, most))]
        return Side(axis=Axis(labels=labels), groups=[place * len(labels) // tokens for place in range(tokens)])
    grid, there, step = cells(rows, columns, most - extra)
    if step > 1:
        note = f"Patches are shown {step} x {step} together, {grid[0]} x {grid[1]} of {rows} x {columns}: --tokens shows more."
        notes += [note] if note not in notes else []
    count = grid[0] * grid[1]
    return Side(
        axis=Axis(
            labels=[
                *(["class"] if extra == 1 else [f"extra {place}" for place in range(extra)]),
                *(f"line {place // grid[1]}, column {place % grid[1]}" for place in range(count)),
            ],
            frames=[-1] * extra + [0] * count,
            cells=[*[-1] * extra, *range(count)],
            grid=grid,
        ),
        groups=[*range(extra), *(extra + place for place in there)],
    )


def _answer(model: Any, out: Any) -> str:
    """What a classifier takes it for, or how well picture and words agree."""
    logits = getattr(out, "logits", None)
    names = getattr(model.config, "id2label", None) or {}
    if isinstance(logits, torch.Tensor) and logits.ndim == 2 and logits.shape[1] == len(names):
        mean = logits.softmax(-1).mean(0)
        return f"{names[int(mean.argmax())]} ({float(mean.max()):.2f})"
    agree = getattr(out, "logits_per_image", None)
    return f"agreement of picture and words: {float(agree.mean()):.2f} (a logit)" if agree is not None else ""


def _pair(value: Any, name: str, path: str) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return int(value[0]), int(value[1])
    raise AttimeError(f"lens must know the {name} of a vision model; the configuration of {path} does not say it.")
