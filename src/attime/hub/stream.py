"""An endless stream of tokens through a model with a memory: how well it predicts, how fast, and what it holds."""

import codecs
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from attime.errors import AttimeError
from attime.hub.attached import Attached

__all__ = ["Progress", "stream", "text_model"]

SPACE = re.compile(r"(?<=\S)\s+")
LONGEST = 4096  # letters of a word that are waited for


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a stream stands."""

    tokens: int
    seconds: float
    """CPU seconds of this process since the stream began."""
    nbytes: int
    """Bytes that the memory holds now."""
    nats: float
    """Mean nats per token so far."""
    recent_nats: float
    """Mean nats per token of the last chunk."""

    @property
    def rate(self) -> float:
        """Tokens per CPU second."""
        return self.tokens / max(self.seconds, 1e-9)

    @property
    def perplexity(self) -> float:
        """exp of the mean nats."""
        return math.exp(min(self.nats, 700.0))


@torch.inference_mode()
def stream(attached: Attached, tokens: Iterable[Tensor]) -> Iterator[Progress]:
    """Feed chunks of token ids (time,) to one conversation; after each chunk, where it stands.

    Every token but the first is predicted from all that is remembered of what came before it.
    """
    cache, last = attached.cache(), None
    total, count, start = 0.0, 0, time.process_time()
    for chunk in tokens:
        if not len(chunk):
            continue
        logits = attached.model(chunk[None], past_key_values=cache).logits[0].float()
        before = logits[:-1] if last is None else torch.cat([last, logits[:-1]])
        targets = chunk[1:] if last is None else chunk
        nats = float(F.cross_entropy(before, targets, reduction="sum")) if len(targets) else 0.0
        total, count, last = total + nats, count + len(targets), logits[-1:]
        yield Progress(
            tokens=count + 1,
            seconds=time.process_time() - start,
            nbytes=cache.nbytes,
            nats=total / max(1, count),
            recent_nats=nats / max(1, len(targets)),
        )
    cache.check()  # a policy that could not act at the very end


def text_model(path: str) -> tuple[PreTrainedModel, Callable[[bytes], Tensor]]:
    """A language model from a folder or hub id, and its reader: from one piece of UTF-8 after the other to ids (time,).

    Text is cut where a word begins, so that tokens are those of the whole; the empty piece is the end of it.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        model = AutoModelForCausalLM.from_pretrained(path).eval()
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise AttimeError(
            f"--model needs a folder or id of a language model with its tokenizer; {path}: {reason}"
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
