"""How many tokens a model can read at all, however little of them a memory keeps: learnt positions end, chunks of attention begin anew."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from attime.errors import AttimeError

__all__ = ["Reach", "check_reach", "find_reach"]

LEARNT = ("wpe", "embed_positions", "position_embeddings", "position_embedding")


@dataclass(frozen=True)
class Reach:
    """The most tokens, and why there are no more."""

    most: int
    why: str
    by_mask: bool = False
    """The model counts positions in the padding mask, if there is one."""
    learnt: bool = True
    """The limit is on positions, and not on tokens."""


@torch.compiler.disable
def check_reach(reach: Reach, before: int, new: int, told: Mapping[str, Any]) -> None:
    """Raise if so many tokens before, and the new ones, are too many."""
    positions, mask, count = told.get("position_ids"), told.get("attention_mask"), before + new
    if reach.learnt and positions is not None and positions.numel():
        count = int(positions.max()) + 1
    elif reach.by_mask and mask is not None and mask.ndim == 2:
        count = int(mask.sum(-1).max())
    if count > reach.most:
        raise AttimeError(
            f"{reach.why}, so it reads at most {reach.most} tokens with a memory too; got {count}: cut the text, or take a model "
            f"with rotary positions and attention to everything."
        )


def find_reach(text: PreTrainedModel) -> Reach | None:
    """The limit of this model; None if it has none."""
    name, config = type(text).__name__, text.config
    chunk = getattr(config, "attention_chunk_size", None)
    if chunk and "chunked_attention" in (getattr(config, "layer_types", None) or ()):
        return Reach(int(chunk), f"{name} attends in chunks, which a memory does not follow", learnt=False)
    for path, part in text.named_modules():
        if isinstance(part, nn.Embedding) and path.rsplit(".", 1)[-1] in LEARNT:
            offset = getattr(part, "offset", 0)
            return Reach(part.num_embeddings - offset, f"{name} has learnt its positions", by_mask=bool(offset))
    return None
