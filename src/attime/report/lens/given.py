"""What somebody gives to be looked at: a text, pictures or sound, read as far as it is shown, and sentences on what was cut."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from attime.errors import AttimeError
from attime.report.lens.page import MOST
from attime.site import Where
from attime.streams.audio import Audio
from attime.streams.video import Video

__all__ = ["Wish", "film", "first", "known", "short", "sound", "text"]


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is looked at, and how much of it."""

    given: str
    """A text, or the path of a file."""
    ask: str | None = None
    where: Where | str | None = None
    step: int | None = None
    tokens: int | None = None
    """Most labels along a side of a map; None: 256."""
    seconds: float | None = None
    """Of a film or sound; None: what suits the model."""

    def __post_init__(self) -> None:
        if self.ask is not None and not self.ask.strip():
            raise AttimeError(f"--ask needs words; got {self.ask!r}.")
        if self.tokens is not None and not 8 <= self.tokens <= MOST:
            raise AttimeError(f"lens shows 8 to {MOST} tokens; got --tokens {self.tokens}.")
        if self.seconds is not None and not 0 < self.seconds < float("inf"):
            raise AttimeError(f"lens needs --seconds above 0; got {self.seconds:g}.")

    @property
    def most(self) -> int:
        """Most labels along a side of a map."""
        return 256 if self.tokens is None else self.tokens


def text(given: str) -> str:
    """A file's text, or the words themselves."""
    words = given
    if _is_file(given):
        try:
            words = Path(given).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise AttimeError(f"this model reads a text, and the file cannot be read: {error}.") from None
        if "\0" in words:
            raise AttimeError(f"this model reads a text or a file of text in UTF-8; {given} is another file.")
    if not words:
        raise AttimeError("there is nothing to look at: the text is empty.")
    return words


def first(ids: list[int], wish: Wish, model: Any = None) -> tuple[list[int], list[str]]:
    """As many tokens as are shown and as a model of transformers has places for, all of them `known`."""
    places = MOST if model is None else _places(model)
    room = min(wish.most, places)
    shown = ids[:room] if model is None else known(ids[:room], model)
    if len(ids) <= room:
        return shown, []
    most = min(places, MOST)
    more = f"--tokens {len(ids)} shows all" if len(ids) <= most else f"--tokens shows up to {most}"
    more = "the model has places for no more" if places < wish.most else more
    return shown, [f"Of {len(ids):,} tokens the first {room} are read: {more}."]


def known(ids: list[int], model: Any) -> list[int]:
    """The tokens; AttimeError if there are none, or some that the model does not have."""
    if not ids:
        raise AttimeError("there is nothing to look at: the tokenizer makes no tokens of this text.")
    size = getattr(model.config.get_text_config(), "vocab_size", None)
    if size and max(ids) >= size:
        raise AttimeError(
            f"the tokenizer makes token {max(ids)} of this text, and the model knows 0 to {size - 1}: put the tokenizer beside it "
            f"with which it was trained."
        )
    return ids


def film(wish: Wish, *, fps: float, seconds: float) -> tuple[NDArray[np.uint8], list[str]]:
    """Frames (time, height, width, 3) of the first seconds, at a rate; a picture is a single frame."""
    given = wish.given
    if not _is_file(given):
        raise AttimeError(f"this model looks at a picture or film, a file; {short(given)} is none.")
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(given) as picture:
            if getattr(picture, "n_frames", 1) == 1:
                return np.asarray(picture.convert("RGB"))[None].copy(), []
    except (UnidentifiedImageError, OSError):
        pass
    video = Video(given)
    span = seconds if wish.seconds is None else wish.seconds
    when_s = np.arange(max(1, round(span * fps))) / fps
    when_s = when_s[when_s < max(video.duration_s, 1 / fps) - 1e-6]
    return video.at(np.minimum(when_s, video.duration_s)), _cut(video.duration_s, span, "film")


def sound(wish: Wish, *, rate: int | None, seconds: float) -> tuple[NDArray[np.float32], int, list[str]]:
    """Samples (time,) of the first seconds, their rate, and what was cut."""
    if not _is_file(wish.given):
        raise AttimeError(f"this model listens to sound, a file; {short(wish.given)} is none.")
    audio = Audio(wish.given)
    span = seconds if wish.seconds is None else min(wish.seconds, seconds)
    samples = audio.read(0.0, span, rate=rate, mono=True).reshape(-1)
    return samples, rate or audio.rate, _cut(audio.duration_s, span, "sound", most=seconds)


def short(given: str) -> str:
    """The beginning of a text."""
    return given if len(given) <= 40 else f"{given[:37]}..."


def _cut(duration: float, span: float, what: str, most: float = float("inf")) -> list[str]:
    if duration <= span + 0.05:
        return []
    more = "--seconds takes more or less" if span < most else "the model takes no more at a time"
    return [f"Of {duration:.1f} s of {what} the first {span:g} s are shown: {more}."]


def _places(model: Any) -> int:
    """Tokens that a model of transformers was made for; MOST, if it does not say."""
    places = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    tables = [each for name, each in model.named_modules() if isinstance(each, nn.Embedding) and "position" in name]
    before = max((1 + each.padding_idx for each in tables if each.padding_idx is not None), default=0)
    return places - before if isinstance(places, int) and places > before else MOST


def _is_file(given: str) -> bool:
    try:
        return Path(given).is_file()
    except (OSError, ValueError):
        return False
