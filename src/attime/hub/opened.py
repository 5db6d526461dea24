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
BEGINS = re.compile(r"(?<=[^\W_])\s|(?<=\S)[^\S\r\n]")
"""Where a word begins: at a blank, but at a line's end only behind a letter or digit, since other marks may be one token with it."""
LONGEST = 4096  # letters of a word that are waited for
TOKENIZERS = ("*token*", "*vocab*", "*.model")
"""Files of which one is in the folder of any tokenizer."""


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

    The empty piece is the end of the text. Text is cut where a word begins, and a part of it is read behind the word before it,
    so that tokens are those of the whole wherever none of them reaches over such a place.
    """
    folder = Path(path)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise AttimeError(f"--model needs a folder of a language model with its tokenizer; {path} has no config.json.")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    except MISSING as error:
        here = not folder.is_dir() or any(each for kind in TOKENIZERS for each in folder.glob(kind))
        why = reason(error) if here else "there is none: save it there too."
        raise AttimeError(f"--model needs the tokenizer of its model beside it; {path}: {why}") from None
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(path).eval()
        embeddings: Any = model.get_input_embeddings()
        known = int(embeddings.weight.shape[0])
        causal = _is_causal(model, known)
    except MISSING as error:
        raise AttimeError(f"--model needs a folder or id of a language model; {path}: {reason(error)}") from None
    if not causal:
        raise AttimeError(
            f"--model needs a model that reads from left to right, such as a Llama; in the {type(model).__name__} of {path} a "
            f"token sees those behind it."
        )
    if (needed := int(tokenizer.vocab_size)) > known:
        raise AttimeError(
            f"--model needs a tokenizer and a model that belong together; in {path} one has {needed} tokens and the other {known}."
        )
    return model, Pieces(tokenizer, known)


@torch.no_grad()
def _is_causal(model: Any, known: int) -> bool:
    """Whether a token is read alike whatever comes behind it."""
    ids = torch.full((2, 8), known // 2, device=model.device)
    ids[1, 1:] = known // 3
    first, second = model(input_ids=ids).logits[:, 0].float()
    return bool((first - second).abs().max() <= 1e-3 * first.abs().max())


class Pieces:
    """Reads a text in pieces, each as it comes (see `text_model`)."""

    def __init__(self, tokenizer: Any, known: int) -> None:
        self.tokenizer, self.known = tokenizer, known
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.waiting, self.before = "", ""

    def __call__(self, piece: bytes) -> Tensor:
        text = self.waiting + self.decoder.decode(piece, final=not piece)
        begins = [0, *(found.start() for found in BEGINS.finditer(text))]
        if not piece or len(text) - begins[-1] > LONGEST:
            begins.append(len(text))
        text, self.waiting = text[: begins[-1]], text[begins[-1] :]
        if not text:
            return torch.zeros(0, dtype=torch.long)
        before, both = self._ids(self.before), self._ids(self.before + text)
        ids = both[len(before) :] if both[: len(before)] == before else self._ids(text)
        if max(ids, default=0) >= self.known:
            raise AttimeError(
                f"--model needs a tokenizer and a model that belong together; the text has token {max(ids)}, and the model {self.known}."
            )
        self.before = text[begins[-2] :]
        return torch.tensor(ids, dtype=torch.long)

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]) if text else []


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
