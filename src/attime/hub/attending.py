"""`with attending(model, function):` the attention of a transformers model is a pure function, to read, change or learn it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from attime.errors import AttimeError
from attime.hub.attached import text_part
from attime.hub.own_attention import own_attention

__all__ = ["Attend", "attending"]

Attend = Callable[[int, Tensor, Tensor, Tensor, float], Tensor]
"""(layer, queries, keys, values, scale) -> outputs: (batch heads time head_dim), rotated, key-value heads not repeated."""


@contextmanager
def attending(model: PreTrainedModel, function: Attend) -> Iterator[None]:
    """The model's attention is `function` as long as this lasts; gradients go through it. For rows without padding.

    The function answers for all of it, also for what the model's own would add: a window, a softcap, learnt sinks.
    """

    def attention(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float | None = None,
        **_: Any,
    ) -> tuple[Tensor, None]:
        if attention_mask is not None and not bool(attention_mask.all()):
            raise AttimeError("attending() is for rows without padding; got a mask with gaps: give one row at a time.")
        layer = module.layer_idx
        assert isinstance(layer, int)
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        return function(layer, query, key, value, scale).transpose(1, 2), None

    with own_attention(text_part(model, who="attending"), attention):
        yield
