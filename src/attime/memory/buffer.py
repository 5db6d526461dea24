"""A growing buffer along time: appending never copies what is there, but for a few times in its life."""

from typing import final

import torch
from jaxtyping import Int, Shaped
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Buffer"]

GROWTH = 1.25  # a full buffer becomes a quarter longer: each entry is copied some four times in its life


@final
class Buffer:
    """Entries (lanes, entries, ...) with spare room behind them."""

    def __init__(self, entries: Shaped[Tensor, "lanes entries ..."], *, room: int = 0) -> None:
        self.length = entries.shape[1]
        self._held = _roomy(entries, room)

    @property
    def nbytes(self) -> int:
        """Bytes held, the spare room included."""
        return self._held.nbytes

    @property
    def now(self) -> Shaped[Tensor, "lanes entries ..."]:
        """The entries, as a view that may be written to."""
        return self._held[:, : self.length]

    def append(self, new: Shaped[Tensor, "lanes new ..."]) -> None:
        """More entries behind the last."""
        end = self.length + new.shape[1]
        if torch.is_grad_enabled() and (new.requires_grad or self._held.requires_grad):
            self._held, self.length = torch.cat([self.now, new], dim=1), end  # gradients need what was there before
            return
        if end > self._held.shape[1]:
            self._held = _roomy(self.now, max(end, int(GROWTH * self.length)) - self.length)
        self._held[:, self.length : end] = new
        self.length = end

    def select(self, kept: Int[Tensor, "lanes kept"], *, room: int = 0) -> "Buffer":
        """A buffer of these entries of every lane, with room for `room` more."""
        lanes, size = self._held.shape[:2]
        if not size:
            return Buffer(self._held, room=room)
        filled = F.pad(kept, (0, room))  # the room holds copies until something comes
        rows = (filled + size * torch.arange(lanes, device=kept.device)[:, None]).flatten()
        made = Buffer(self._held[:, :0])
        made._held = self._held.flatten(0, 1).index_select(0, rows).unflatten(0, filled.shape)
        made.length = kept.shape[1]
        return made

    def lanes(self, chosen: Int[Tensor, " chosen"]) -> "Buffer":
        """A buffer of these lanes."""
        return Buffer(self.now[chosen], room=self._held.shape[1] - self.length)


def _roomy(entries: Tensor, room: int) -> Tensor:
    """A copy of the entries with unused room behind them."""
    lanes, length = entries.shape[:2]
    held = entries.new_empty(lanes, length + room, *entries.shape[2:])
    held[:, :length] = entries
    return held
