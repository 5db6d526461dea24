"""For a while, a model of transformers computes attention by a function of ours and hands it the padding mask as it is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

__all__ = ["own_attention"]


@contextmanager
def own_attention(text: PreTrainedModel, attention: Callable[..., Any]) -> Iterator[None]:
    """`attention` is called as transformers calls attention functions; at the end the model has its own back."""
    before, name = str(text.config._attn_implementation), f"attime_{id(text)}_{id(attention)}"
    ALL_ATTENTION_FUNCTIONS[name] = attention
    AttentionMaskInterface.register(name, _mask)  # transformers asks the class's own table for masks
    text.set_attn_implementation(name)
    try:
        yield
    finally:
        text.set_attn_implementation(before)
        del ALL_ATTENTION_FUNCTIONS[name], AttentionMaskInterface._global_mapping[name]


def _mask(*, attention_mask: Tensor | None = None, **_: Any) -> Tensor | None:
    """The mask function of transformers: hands on the padding mask (batch, columns)."""
    return attention_mask
