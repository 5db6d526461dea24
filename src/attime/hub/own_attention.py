"""For a while, a model of transformers computes attention by a function of ours and hands it the padding mask as it is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from weakref import WeakSet

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from attime.errors import AttimeError

__all__ = ["free", "its_own_attention", "own_attention"]

NUMBER = count()


@dataclass
class Held:
    """A configuration whose models compute attention by a function of ours: it may be that of several models."""

    config: Any
    before: str
    name: str
    attention: Callable[..., Any]
    texts: WeakSet[nn.Module] = field(default_factory=WeakSet[nn.Module])


HELD: dict[int, Held] = {}


def free(text: PreTrainedModel, attention: Callable[..., Any]) -> None:
    """Raise if this model's attention is a function of ours already, which a second one would push aside."""
    held = HELD.get(id(text.config))
    if held is None or (held.attention is attention and text not in held.texts):
        return
    whose = "it has" if text in held.texts else "a model of the same configuration object has"
    raise AttimeError(
        f"attach and attending need a {type(text).__name__} with its own attention, and {whose} one of attime's already: "
        f"leave that `with`, or detach(), first."
    )


@contextmanager
def own_attention(text: PreTrainedModel, attention: Callable[..., Any]) -> Iterator[None]:
    """`attention` is called as transformers calls attention functions; at the end the model has its own back."""
    free(text, attention)
    held = HELD.get(id(text.config)) or _take(text, attention)
    held.texts.add(text)
    try:
        yield
    finally:
        held.texts.discard(text)
        if not held.texts:
            _set(text, held.before)
            _forget(held)


@contextmanager
def its_own_attention(text: PreTrainedModel) -> Iterator[None]:
    """The model's own attention, also where another model of the same configuration object computes by ours."""
    held = HELD.get(id(text.config))
    if held is None:
        yield
        return
    _set(text, held.before)
    try:
        yield
    finally:
        _set(text, held.name)


def _take(text: PreTrainedModel, attention: Callable[..., Any]) -> Held:
    held = Held(text.config, str(text.config._attn_implementation), f"attime_{next(NUMBER)}", attention)
    ALL_ATTENTION_FUNCTIONS[held.name] = attention
    AttentionMaskInterface.register(held.name, _mask)  # transformers asks the class's own table for masks
    HELD[id(text.config)] = held
    try:
        _set(text, held.name)
        if text.config._attn_implementation != held.name:
            raise AttimeError(
                f"attach and attending need a model that takes its attention from transformers' attention interface; {type(text).__name__} "
                f"has it written into its layers: use it as it is, or take another model."
            )
    except BaseException:
        _forget(held)
        raise
    return held


def _set(text: PreTrainedModel, name: str) -> None:
    if type(text)._can_set_attn_implementation():  # transformers would only log that it does not
        text.set_attn_implementation(name)


def _forget(held: Held) -> None:
    del HELD[id(held.config)], ALL_ATTENTION_FUNCTIONS[held.name], AttentionMaskInterface._global_mapping[held.name]


def _mask(*, attention_mask: Tensor | None = None, **_: Any) -> Tensor | None:
    """The mask function of transformers: hands on the padding mask (batch, columns)."""
    return attention_mask
