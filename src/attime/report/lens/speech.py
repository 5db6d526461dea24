"""Whisper and its like, and sound: what the encoder hears and what the decoder writes, its own first words."""

from math import ceil
from typing import Any

import torch

from attime.control.call import Call
from attime.errors import AttimeError
from attime.report.lens.given import Wish, short, sound
from attime.report.lens.page import Axis, Look
from attime.report.lens.seen import Side, see

__all__ = ["look"]

HOP = 160  # samples of a column of the spectrogram; the encoder joins two
ANSWER = 48
"""Most tokens that are written."""


def look(model: Any, path: str, wish: Wish) -> Look:
    """One pass over the sound and what the model writes about it."""
    from attime.hub.opened import RATE, Words, spectrogram

    config = model.config
    places = getattr(config, "max_source_positions", None)
    if places is None or not config.is_encoder_decoder:
        raise AttimeError(f"lens listens with Whisper-like models; {type(model).__name__} of {path} is another one.")
    if wish.ask is not None:
        raise AttimeError(f"{path} writes down what it hears and is not asked: leave out --ask.")
    second = RATE / HOP / 2
    samples, _, notes = sound(wish, rate=RATE, seconds=places / second)
    given = spectrogram(path, samples, bands=config.num_mel_bins, length=2 * places)
    words = Words(path)
    with torch.no_grad():
        written = _written(model, given, min(ANSWER, config.max_target_positions - 1))
    heard = min(places, max(1, ceil(len(samples) / RATE * second)))
    joined = ceil(heard / wish.most)
    if joined > 1:
        notes.append(f"{joined} places of the encoder, {joined / second:.2f} s, are shown as one: --tokens shows more.")
    if heard < places:
        notes.append(
            f"Behind the sound the model hears silence up to {places / second:g} s; attention to it is not shown."
        )
    if len(written) > ANSWER:
        notes.append(f"The model goes on after the {ANSWER} tokens that are shown.")
    labels = [f"{place * joined / second:.2f} s" for place in range(ceil(heard / joined))]
    sides = {
        "sound": Side(
            axis=Axis(labels=labels),
            groups=[place // joined if place < heard else -1 for place in range(places)],
        ),
        "words": Side(axis=Axis(labels=words.labels(written))),
    }

    def along(call: Call) -> tuple[str, str]:
        rows = "sound" if call.site.part == "encoder" else "words"
        return rows, "words" if (call.site.part, call.site.kind) == ("decoder", "self") else "sound"

    heads, _ = see(
        model,
        lambda: model(input_features=given, decoder_input_ids=torch.tensor([written]), use_cache=False),
        along,
        sides,
        where=wish.where,
        ids=written,
    )
    return Look(
        title=f"{path} hears {short(wish.given)}",
        answer=words.decode(written) or "(nothing)",
        axes={name: side.axis for name, side in sides.items()},
        heads=heads,
        notes=notes,
    )


def _written(model: Any, given: torch.Tensor, most: int) -> list[int]:
    """The start and the likeliest token after each other, up to the end."""
    heard = (model.get_encoder()(given).last_hidden_state,)
    written = [model.config.decoder_start_token_id]
    while len(written) <= most:
        logits = model(encoder_outputs=heard, decoder_input_ids=torch.tensor([written]), use_cache=False).logits
        number = int(logits[0, -1].argmax())
        if number == model.config.eos_token_id:
            break
        written.append(number)
    return written
