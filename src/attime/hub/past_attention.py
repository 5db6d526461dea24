"""The attention function that a model of transformers is given: a layer's past takes the chunk in and answers it."""

from typing import Any

import torch
from torch import Tensor, nn

from attime.errors import AttimeError
from attime.hub.layer import MemoryLayer
from attime.memory.reader import Scoring

__all__ = ["past_attention"]

OTHERS = ("s_aux", "sinks", "position_bias", "indices", "block_indices", "cu_seq_lens_q", "cu_seq_lens_k")
"""What else models tell their attention that changes its numbers: learnt sinks, biases, chosen keys, packed rows."""


@torch.compiler.disable  # a past is Python that grows: it runs between compiled pieces
def past_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    **told: Any,
) -> tuple[Tensor, None]:
    """Called as transformers calls attention functions; the keys are those that a layer of ours has returned."""
    layer = getattr(key, "attime_layer", None)
    if not isinstance(layer, MemoryLayer):
        raise AttimeError(
            f"a memory needs every attention to get its keys from a cache of the memory as they are, and those of "
            f"{type(module).__name__} came without one: call the whole model, and not its decoder, without gradient checkpointing, "
            f"and if this was at attach, use the model as it is."
        )
    for name in OTHERS:
        if told.get(name) is not None:
            raise AttimeError(
                f"a memory attends by queries and keys alone, and {type(module).__name__} gives its attention {name}= too, "
                f"which would be lost: use the model without a memory."
            )
    if told.get("dropout"):
        raise AttimeError(
            f"a memory attends to all that it has kept, and {type(module).__name__} drops some of it in training: set its "
            f"attention_dropout to 0, or call eval()."
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    window = told["sliding_window"] if "sliding_window" in told else _window(module, layer.layer)
    scoring = Scoring(scale=scale, window=window, softcap=softcap)
    return layer.attend(query, key, value, attention_mask, scoring).transpose(1, 2), None


def _window(module: nn.Module, layer: int) -> int | None:
    """The model's own window where it is told to masks alone, and not to the attention."""
    config = getattr(module, "config", None)
    kinds = getattr(config, "layer_types", None)
    return getattr(config, "sliding_window", None) if not kinds or kinds[layer] == "sliding_attention" else None
