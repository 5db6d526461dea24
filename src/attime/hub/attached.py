"""`attach(model, policy)`: any transformers language model reads its past through a memory policy, until detached."""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from attime.errors import AttimeError
from attime.hub.cache import MemoryCache, MemoryLayer
from attime.hub.lag import Lags
from attime.hub.own_attention import own_attention
from attime.hub.rotary import Clock, rotation
from attime.memory.contract import Chain, Policy, chain
from attime.memory.reader import Scoring

__all__ = ["Attached", "attach"]


def attach(model: PreTrainedModel, policy: Policy | None = None) -> "Attached":
    """Put a memory policy under a model of transformers: `with attach(model, SinkWindow()): model.generate(...)`.

    Works for decoder-only language models and the text towers of vision-language models. `cache()` makes a cache for a
    conversation of several turns; without one every forward and generate starts afresh. `detach()`, or leaving the
    `with`, restores the model. Under torch.compile a model with a cache given runs with the same numbers: its layers are
    compiled up to and from their attention, and the attention over the past, which grows, runs as it is.
    """
    return Attached(model, policy if isinstance(policy, Chain) else chain(*([] if policy is None else [policy])))


class Attached:
    """A model with a memory policy under it; see `attach`."""

    def __init__(self, model: PreTrainedModel, policy: Chain) -> None:
        self.model, self.policy = model, policy
        self.text = text_part(model)
        config = self.text.config
        self.heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        self.kinds: list[str | None] = list(getattr(config, "layer_types", None) or [None] * config.num_hidden_layers)
        rotate = [rotation(self.text, kind) for kind in self.kinds]
        if policy.evidence().rotary and any(each is None for each in rotate):
            raise AttimeError(
                f"{policy} moves keys along rotary positions, and {type(model).__name__} has none: leave out Contiguous."
            )
        self.rotate, self.clock = rotate, Clock(self.text)
        self.lags = Lags(model)
        self._undo = ExitStack()
        self._undo.enter_context(own_attention(self.text, _attention))
        self._undo.callback(self.lags.stop)
        self._undo.callback(self.clock.stop)
        self._undo.callback(model.register_forward_pre_hook(self._supply, with_kwargs=True).remove)

    def cache(self) -> MemoryCache:
        """An empty cache under this policy."""
        layers = len(self.kinds)
        made = [
            MemoryLayer(
                self.policy, heads=self.heads, layer=layer, layers=layers, rotate=self.rotate[layer], clock=self.clock
            )
            for layer in range(layers)
        ]
        return MemoryCache(made, model=self.fingerprint)

    def load(self, path: str | Path) -> MemoryCache:
        """A cache that `save` wrote, for this model and this policy; AttimeError for a damaged or foreign file."""
        return self.cache().restore(path)

    @property
    def fingerprint(self) -> str:
        """Class, sizes and a checksum of the first weights: a saved memory is of no use to another model."""
        first = next(self.model.parameters()).detach().flatten()[:4096].double()
        return f"{type(self.model).__name__}-{self.model.num_parameters()}-{float(first.sum()):.6g}"

    def detach(self) -> None:
        """Give the model its own attention back; a second call does nothing."""
        self._undo.close()

    def __enter__(self) -> "Attached":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()

    def _supply(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """A forward without a cache, or with the empty one that generate() makes, gets one of ours."""
        given = kwargs.get("past_key_values")
        if given is None or (not isinstance(given, MemoryCache) and given.get_seq_length() == 0):
            kwargs = {**kwargs, "past_key_values": self.cache()}
            if given is not None:  # generate() has just found it
                self.lags.take(kwargs["past_key_values"])
        elif not isinstance(given, MemoryCache):
            raise AttimeError(
                f"a model with a memory attached needs a cache made by its cache(); got a {type(given).__name__} with "
                f"{given.get_seq_length()} tokens: start the conversation again, or detach first."
            )
        else:
            given.check()
        self.lags.hand(kwargs["past_key_values"])
        return args, kwargs


def text_part(model: PreTrainedModel) -> PreTrainedModel:
    """The decoder whose layers hold the past: the model's own, or the text tower of a vision-language model."""
    text = model.get_decoder() if isinstance(model, PreTrainedModel) else None
    if not isinstance(text, PreTrainedModel) or not hasattr(text.config, "num_hidden_layers"):
        raise AttimeError(
            f"attach needs a language model of transformers with a decoder (Llama, Qwen, Mistral, Gemma, GPT-NeoX, Qwen2.5-VL, "
            f"LLaVA-OneVision, ...); got a {type(model).__name__}."
        )
    return text


@torch.compiler.disable  # a past is Python that grows: it runs between compiled pieces
def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """The attention function of transformers: the layer's past takes the chunk in and answers it."""
    layer = getattr(key, "attime_layer", None)
    assert isinstance(layer, MemoryLayer), "every forward is given a cache of ours"
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scoring = Scoring(scale=scale, window=sliding_window, softcap=softcap)
    return layer.attend(query, key, value, attention_mask, scoring).transpose(1, 2), None
