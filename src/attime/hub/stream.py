"""An endless stream of tokens through a model with a memory: how well it predicts, how fast, and what it holds."""

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from attime.errors import AttimeError
from attime.hub.attached import Attached

__all__ = ["Progress", "stream"]


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
    halted: AttimeError | None = None
    """Why a policy could not act after this chunk, although nothing is lost; raised when more comes in."""

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
            halted=next((past.halted for _, past in cache.pasts if past.halted is not None), None),
        )
    cache.check()  # a policy that could not act at the very end
