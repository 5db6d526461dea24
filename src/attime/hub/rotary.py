"""The rotary embedding of a model of transformers: its frequencies, and the positions of the forward that is under way."""

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Clock", "changes", "frequencies", "rotary_part"]


class Clock:
    """Keeps the rotary positions of the forward that is under way, for models whose positions have several axes."""

    def __init__(self, text: nn.Module) -> None:
        self._axes: Tensor | None = None
        self._place: Tensor | None = None
        self.live = True
        """Until the memory is detached from the model."""
        rotary = rotary_part(text)
        self._hook = None if rotary is None else rotary.register_forward_pre_hook(self._see, with_kwargs=True)

    @property
    def several(self) -> bool:
        """Whether positions have several axes in this forward; words alone may be given one."""
        return self._axes is not None and len(self._axes) > 1

    @property
    def place(self) -> Tensor | None:
        """(batch, time, 2): least and greatest position over the axes; None before the first forward."""
        if self._place is None and self._axes is not None:
            self._place = torch.stack([self._axes.amin(0), self._axes.amax(0)], dim=-1)
        return self._place

    def stop(self) -> None:
        """Look no more."""
        self.live = False
        if self._hook is not None:
            self._hook.remove()

    def _see(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        positions = kwargs["position_ids"] if "position_ids" in kwargs else args[1]
        self._axes = positions if positions.ndim == 3 else positions[None]
        self._place = None


def rotary_part(text: nn.Module) -> nn.Module | None:
    """The module that makes a model's rotary embedding, if it has one."""
    return next((part for name, part in text.named_modules() if name.rsplit(".", 1)[-1] == "rotary_emb"), None)


def frequencies(text: nn.Module, kind: str | None = None) -> Tensor | None:
    """Angle per position of every pair of dimensions. `kind` is the layer's type, where models have several.

    One angle per frequency: also right for multimodal rotary positions when all of their axes move alike.
    """
    rotary = rotary_part(text)
    for name in (f"{kind}_inv_freq", "inv_freq"):
        found = getattr(rotary, name, None)
        if isinstance(found, Tensor):
            return found
    return None


def changes(text: nn.Module, kind: str | None = None) -> bool:
    """Whether frequencies change as a text grows, so that a key is turned by those of its own day."""
    rope = getattr(rotary_part(text), "rope_type", "")
    own = str(rope.get(kind, "") if isinstance(rope, dict) else rope)
    return "dynamic" in own or own == "longrope"
