"""Language models of transformers, and a text."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from attime.errors import AttimeError
from attime.report.lens.given import Wish, first, short, text
from attime.report.lens.page import Axis, Look
from attime.report.lens.seen import Side, see

__all__ = ["look", "read"]


def look(model: Any, path: str, wish: Wish) -> Look:
    """One pass over the text."""
    from attime.hub.opened import Words

    if getattr(model.config, "is_encoder_decoder", False):
        raise AttimeError(
            f"lens reads with models that have one stack of layers; {type(model).__name__} has an encoder and a decoder: use "
            f"attime.hub.watch around your own call."
        )
    if wish.ask is not None:
        raise AttimeError(
            f"--ask is for films, pictures and sound; {path} reads its INPUT alone: write the question there."
        )
    given = text(wish.given)
    words = Words(path)
    ids, notes = first(words.encode(given, marked=True), wish, model)
    return read(model, f"{path} reads {short(wish.given)}", ids, words.labels(ids), wish, notes)


def read(model: Any, title: str, ids: Sequence[int], labels: Sequence[str], wish: Wish, notes: Sequence[str]) -> Look:
    """One pass over tokens."""
    sides = {"text": Side(axis=Axis(labels=labels))}
    plain: dict[str, Any] = {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}
    heads, _ = see(
        model,
        lambda: model(input_ids=torch.tensor([list(ids)]), **plain),
        lambda call: ("text", "text"),
        sides,
        where=wish.where,
        ids=ids,
    )
    return Look(title=title, axes={name: side.axis for name, side in sides.items()}, heads=heads, notes=notes)
