"""From a model and what it is given to a `Look`: whichever library and class it is of, in the words of one command."""

from collections.abc import Callable
from typing import Any

from attime.errors import AttimeError
from attime.report.lens import asked, pictures, speech, texts, zoo_models
from attime.report.lens.given import Wish
from attime.report.lens.page import Look

__all__ = ["look_at_model", "look_at_zoo"]


def look_at_zoo(name: str, wish: Wish) -> Look:
    """A model of the zoo and a text, a file to read, tokens, a film or sound with a question, or a sentence to paint."""
    return zoo_models.look(name, wish)


def look_at_model(path: str, wish: Wish) -> Look:
    """A model of transformers from a folder or hub id: a text for language models, a picture or film for those that see, sound for
    those that hear."""
    from attime.hub.opened import MISSING, open_model, reason

    if wish.step is not None:
        raise AttimeError(f"--step is a denoising step of the zoo's painters; {path} is none: leave it out.")
    try:
        model = open_model(path)
    except MISSING as error:
        raise AttimeError(
            f"lens needs zoo:NAME, or a folder or id of a model of transformers; {path}: {reason(error)}"
        ) from None
    return _reader(model, path)(model, path, wish)


def _reader(model: Any, path: str) -> Callable[[Any, str, Wish], Look]:
    """What gives this class what it reads."""
    config = getattr(model, "config", None)
    if not type(model).__module__.startswith("transformers."):
        raise AttimeError(
            f"lens cannot know what {type(model).__name__} of {path} should paint; look at a painter of the zoo, or use "
            f"attime.hub.watch around your own call."
        )
    if any(isinstance(getattr(config, name, None), int) for name in ("video_token_id", "video_token_index")):
        return asked.look
    if getattr(model, "main_input_name", "") == "input_features":
        return speech.look
    if hasattr(config, "vision_config") or getattr(model, "main_input_name", "") == "pixel_values":
        return pictures.look
    if getattr(model, "main_input_name", "") == "input_ids":
        return texts.look
    raise AttimeError(
        f"lens reads text, pictures, films and Whisper-like sound; {type(model).__name__} is given "
        f"{getattr(model, 'main_input_name', 'something else')}: use attime.hub.watch around your own call."
    )
