"""The rotary embedding of a model, as a function that turns keys onwards by any number of positions."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from attime.memory.past import Rotate

__all__ = ["Clock", "rotation"]


class Clock:
    """Keeps the rotary positions of the forward that is under way, for models whose positions have several axes."""

    def __init__(self, text: nn.Module) -> None:
        self._axes: Tensor | None = None
        self._place: Tensor | None = None
        rotary = next((part for name, part in text.named_modules() if name.rsplit(".", 1)[-1] == "rotary_emb"), None)
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
        if self._hook is not None:
            self._hook.remove()

    def _see(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        positions = kwargs["position_ids"] if "position_ids" in kwargs else args[1]
        self._axes = positions if positions.ndim == 3 else positions[None]
        self._place = None


def rotation(text: nn.Module, kind: str | None = None) -> Rotate | None:
    """How the text part of a model rotates its keys; None if it does not. `kind` is the layer's type, where models have several.

    One angle per frequency: also right for multimodal rotary positions when all of their axes move alike.
    """
    rotary = next((part for name, part in text.named_modules() if name.rsplit(".", 1)[-1] == "rotary_emb"), None)
    for name in (f"{kind}_inv_freq", "inv_freq"):
        frequencies = getattr(rotary, name, None)
        if isinstance(frequencies, Tensor):
            return partial(_turn, frequencies)
    return None


def _turn(frequencies: Tensor, keys: Tensor, shift: Tensor) -> Tensor:
    """Keys (lanes, entries, head_dim) turned by shift (lanes, entries) positions; dimensions without rotation stay."""
    angle = shift.double()[..., None] * frequencies.double()
    cos, sin = angle.cos().to(keys.dtype), angle.sin().to(keys.dtype)
    half = len(frequencies)
    one, two, rest = keys.split([half, half, keys.shape[-1] - 2 * half], dim=-1)
    return torch.cat([one * cos - two * sin, two * cos + one * sin, rest], dim=-1)
