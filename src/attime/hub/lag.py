"""How far rotary positions lag behind the count of tokens after a picture: every cache keeps its own.

A clip of many tokens takes few positions, and transformers keeps the difference of the last one on the model
(`rope_deltas`), where two conversations on one model would read each other's.
"""

from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from attime.hub.cache import MemoryCache

__all__ = ["Lags"]

PREPARE = "_prepare_position_ids_for_generation"


class Lags:
    """Hands a model the lag of the conversation that goes on, and takes it back after each forward."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.holder: Any = next((part for part in model.modules() if hasattr(part, "rope_deltas")), None)
        if self.holder is None:
            return
        self._prepare = getattr(model, PREPARE)
        setattr(model, PREPARE, self._prepared)
        self._hook = model.register_forward_hook(
            lambda model, args, kwargs, out: self.take(kwargs["past_key_values"]), with_kwargs=True
        )

    def hand(self, cache: Any) -> None:
        """The model's lag becomes that of this conversation."""
        if self.holder is not None and isinstance(cache, MemoryCache):
            self.holder.rope_deltas = cache.lag

    def take(self, cache: Any) -> None:
        """What the model has found of this conversation."""
        if self.holder is not None and isinstance(cache, MemoryCache):
            cache.lag = self.holder.rope_deltas

    def stop(self) -> None:
        """The model is as it was."""
        if self.holder is not None:
            delattr(self.model, PREPARE)
            self._hook.remove()

    def _prepared(self, inputs: Tensor, model_kwargs: dict[str, Any]) -> Tensor:
        """What generate() asks the model for before its first forward."""
        cache = model_kwargs.get("past_key_values")
        self.hand(cache)
        positions = self._prepare(inputs, model_kwargs)
        self.take(cache)
        return positions
