"""A causal language model as a reader of sessions, with its key-value cache cut down once, after the first reading.

It works on whatever has the call and the cache of transformers' causal models, without importing them.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attime.errors import AttimeError
from attime.tasks.sessions import Text

__all__ = ["CachedReader", "CachedState", "Compress", "LayerCache"]


@dataclass(frozen=True, kw_only=True)
class LayerCache:
    """What one layer holds after a reading, and how its queries attended to it."""

    keys: Float[Tensor, "batch heads time head_dim"]
    values: Float[Tensor, "batch heads time head_dim"]
    attention: Float[Tensor, "batch heads query time"]
    """Softmax maps of all queries of this reading; more heads than `keys` has where heads share keys."""


Compress = Callable[[LayerCache], tuple[Tensor, Tensor]]
"""From a layer's cache to the keys and values that stay; the same number for all heads of a layer and all layers."""


@dataclass(frozen=True, kw_only=True)
class CachedState:
    """A reading: the cache, how many tokens were read, and what comes next."""

    cache: Any = field(repr=False)
    position: int
    logits: Float[Tensor, " vocabulary"] = field(repr=False)

    @property
    def entries(self) -> int:
        """How many keys each head of the first layer holds."""
        return self.cache.layers[0].keys.shape[2]


class CachedReader:
    """Reads tokens (tuples of numbers) and says the likeliest next ones.

    `compress` is called for every layer when the first text of a session has been read (the context with the first query
    in a conversation, the context alone before requests) and never again.
    """

    def __init__(self, model: Any, *, compress: Compress | None = None) -> None:
        self.model, self.compress = model.eval(), compress

    @torch.no_grad()
    def read(self, text: Text, state: CachedState | None = None) -> CachedState:
        if not text or isinstance(text, str):
            raise AttimeError(f"CachedReader reads one token or more, as numbers; got {text!r}: encode the text first.")
        start = 0 if state is None else state.position
        compress = self.compress if state is None else None
        usual = self.model.config._attn_implementation
        if compress is not None:
            self.model.set_attn_implementation("eager")  # the only one that gives maps
        out = self.model(
            input_ids=torch.tensor([text]),
            position_ids=torch.arange(start, start + len(text))[None],
            past_key_values=None if state is None else copy.deepcopy(state.cache),
            use_cache=True,
            output_attentions=compress is not None,
        )
        cache = out.past_key_values
        if compress is not None:
            self.model.set_attn_implementation(usual)
            for layer, attention in zip(cache.layers, out.attentions, strict=True):
                layer.keys, layer.values = compress(
                    LayerCache(keys=layer.keys, values=layer.values, attention=attention)
                )
        return CachedState(cache=cache, position=start + len(text), logits=out.logits[0, -1])

    def say(self, length: int, state: CachedState) -> tuple[int, ...]:
        said: list[int] = []
        for _ in range(length):
            if said:
                state = self.read((said[-1],), state)
            said.append(int(state.logits.argmax()))
        return tuple(said)
