"""Open a model from its folder or hub id, whatever library and class it is of, with what reads words, pictures and sound for it."""

import codecs
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from pickle import UnpicklingError
from textwrap import shorten
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from attime.errors import AttimeError

__all__ = ["MISSING", "Words", "open_model", "pixels", "reason", "spectrogram", "text_model"]

MISSING = (
    *(OSError, EOFError, UnpicklingError, SafetensorError),
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, ImportError, RuntimeError),
)
"""What the libraries raise where a file is missing, damaged or of something else."""
RATE = 16000
"""Samples per second of `spectrogram`."""
SPACE = re.compile(r"(?<=\S)\s+")
LONGEST = 4096  # letters of a word that are waited for


def open_model(path: str) -> Any:
    """A pipeline or model of diffusers, or a model of transformers of the class that its configuration names."""
    folder = Path(path)
    if (folder / "model_index.json").is_file():
        from diffusers.pipelines.pipeline_utils import DiffusionPipeline

        return DiffusionPipeline.from_pretrained(path)
    known: dict[str, Any] = (
        json.loads((folder / "config.json").read_text()) if (folder / "config.json").is_file() else {}
    )
    if "_diffusers_version" in known:
        import diffusers

        return getattr(diffusers, known["_class_name"]).from_pretrained(path)
    config = transformers.AutoConfig.from_pretrained(path)
    names = [name for name in config.architectures or () if hasattr(transformers, name)]
    kind: Any = getattr(transformers, names[0]) if names else transformers.AutoModel
    return kind.from_pretrained(path).eval()


def text_model(path: str) -> tuple[transformers.PreTrainedModel, Callable[[bytes], Tensor]]:
    """A language model from a folder or hub id, and its reader: from one piece of UTF-8 after the other to ids (time,).

    Text is cut where a word begins, so that tokens are those of the whole; the empty piece is the end of it.
    """
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(path)
        model = transformers.AutoModelForCausalLM.from_pretrained(path).eval()
    except MISSING as error:
        raise AttimeError(
            f"--model needs a folder or id of a language model with its tokenizer; {path}: {reason(error)}"
        ) from None
    decoder, waiting = codecs.getincrementaldecoder("utf-8")(errors="replace"), ""

    def encode(piece: bytes) -> Tensor:
        nonlocal waiting
        text = waiting + decoder.decode(piece, final=not piece)
        spaces = list(SPACE.finditer(text))
        cut = spaces[-1].start() if spaces else 0
        if not piece or len(text) - cut > LONGEST:
            cut = len(text)
        text, waiting = text[:cut], text[cut:]
        ids = tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
        return torch.tensor(ids, dtype=torch.long)

    return model, encode


class Words:
    """A model's tokenizer, opened once."""

    def __init__(self, path: str) -> None:
        try:
            self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(path)
        except MISSING as error:
            raise AttimeError(
                f"words for this model need its tokenizer, which {path} does not hold: {reason(error)}"
            ) from None

    def encode(self, text: str, *, marked: bool = False) -> list[int]:
        """Ids of a text; `marked`: with what the model expects before and behind it."""
        return list(self.tokenizer(text, add_special_tokens=marked)["input_ids"])

    def decode(self, ids: Sequence[int]) -> str:
        """The text without special tokens."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True).strip()

    def labels(self, ids: Sequence[int]) -> list[str]:
        """What each token reads, blanks made visible."""
        return [self.tokenizer.decode([number]).replace(" ", "␣").replace("\n", "↵") for number in ids]

    def asked(self, question: str, seen: Sequence[int]) -> list[int]:
        """Ids of a question behind placeholders of what is seen, in the model's own form of a conversation if it has one."""
        plain = [*seen, *self.encode(question)]
        if not getattr(self.tokenizer, "chat_template", None):
            return plain
        marks = "".join(self.tokenizer.convert_ids_to_tokens(list(seen)))
        try:
            text = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": marks + question}], add_generation_prompt=True, tokenize=False
            )
        except Exception:  # templates are programs of others: whatever they raise, the plain form remains
            return plain
        ids = self.encode(text)
        return ids if all(ids.count(number) == list(seen).count(number) for number in set(seen)) else plain


def pixels(
    path: str, frames: NDArray[np.uint8], size: tuple[int, int], *, whole: bool = True
) -> tuple[Tensor, NDArray[np.uint8], bool]:
    """What a vision tower is given (frames, 3, height, width), the same as pictures to show, and whether the model's own processor
    made it; without one, or unless `whole`, pictures are scaled to `size` and their values to -1 to 1, or as its settings say."""
    try:
        processor: Any = transformers.AutoImageProcessor.from_pretrained(path)
    except MISSING:
        processor = None
    mean, deviation = (getattr(processor, name, None) or [0.5] * 3 for name in ("image_mean", "image_std"))
    mean, deviation = (torch.tensor(each, dtype=torch.float32)[:, None, None] for each in (mean, deviation))
    made = None
    if processor is not None and whole:
        try:
            made = processor(images=list(frames), return_tensors="pt")["pixel_values"]
        except MISSING:
            made = None
    own = isinstance(made, Tensor) and made.ndim == 4 and tuple(made.shape[-2:]) == size
    if not own:
        plain = torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, 1).float() / 255
        plain = torch.nn.functional.interpolate(plain, size, mode="bicubic", antialias=True).clamp(0, 1)
        made = (plain - mean) / deviation
    assert isinstance(made, Tensor)
    shown = ((made.float() * deviation + mean).clamp(0, 1) * 255).round().to(torch.uint8)
    return made.float(), shown.movedim(1, -1).numpy(), own


def spectrogram(path: str, samples: NDArray[np.float32], *, bands: int, length: int) -> Tensor:
    """What a Whisper-like encoder is given (1, bands, length) for samples at 16 kHz, silence behind them."""
    try:
        extractor: Any = transformers.AutoFeatureExtractor.from_pretrained(path)
    except MISSING:
        extractor = transformers.WhisperFeatureExtractor(feature_size=bands)
    found = extractor(samples, sampling_rate=RATE, return_tensors="pt")["input_features"][:, :, :length]
    if found.shape[1] != bands:
        raise AttimeError(f"the feature extractor of {path} makes {found.shape[1]} bands; the model hears {bands}.")
    return torch.nn.functional.pad(found, (0, length - found.shape[2]), value=float(found.min()))


def reason(error: Exception) -> str:
    """What an error says, in one line."""
    said = "" if isinstance(error, KeyError) else str(error).strip()
    return shorten(said or repr(error), 300, placeholder=" ...")
