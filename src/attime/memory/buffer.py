"""A growing buffer along time: appending never copies what is there, but for a few times in its life."""

from typing import Any, final

import torch
from jaxtyping import Int, Shaped
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Buffer"]

GROWTH = 1.25  # a full buffer becomes a quarter longer: each entry is copied some four times in its life
SPARE = (
    16  # a buffer that loses as much as it gains is moved to the front of its memory once in a sixteenth of its length
)


@final
class Buffer:
    """Entries (lanes, entries, ...) with spare room behind them."""

    def __init__(self, entries: Shaped[Tensor, "lanes entries ..."], *, room: int = 0) -> None:
        self.length, self._start = entries.shape[1], 0
        self._held = _roomy(entries, room)

    @property
    def nbytes(self) -> int:
        """Bytes held, the spare room included."""
        return self._held.nbytes

    @property
    def now(self) -> Shaped[Tensor, "lanes entries ..."]:
        """The entries, as a view that may be written to."""
        return self._writable().narrow(1, self._start, self.length)

    def change(self, new: Shaped[Tensor, "lanes entries ..."]) -> None:
        """The entries become these, as many."""
        if self._learning(new):
            self._put(new, self.length)
        else:
            self.now.copy_(new)

    def put(self, slot: int, new: Shaped[Tensor, "lanes ..."]) -> None:
        """One entry of every lane becomes this one."""
        if self._learning(new):
            at = torch.tensor([slot], device=new.device)
            self._put(self.now.index_copy(1, at, new[:, None].to(self._held.dtype)), self.length)
        else:
            self.now[:, slot] = new.to(self._held.dtype)

    def append(self, new: Shaped[Tensor, "lanes new ..."]) -> None:
        """More entries behind the last."""
        count = new.shape[1]
        if self._learning(new):
            self._put(torch.cat([self.now, new], dim=1), self.length + count)
            return
        end = self._start + self.length
        if end + count > self._held.shape[1]:
            self._put(_roomy(self.now, max(count, int((GROWTH - 1) * self.length))), self.length)
            end = self.length
        self._writable().narrow(1, end, count).copy_(new)
        self.length += count

    def cut(self, start: int, stop: int, *, room: int = 0) -> None:
        """Lose these entries of every lane, with room for `room` more: the fewer on one side of them are moved."""
        now, gone, length = self.now, max(0, stop - start), self.length - max(0, stop - start)
        spare = self._held.shape[1] - self._start - self.length
        if self._learning(now):
            self._put(torch.cat([now[:, :start], now[:, start + gone :]], dim=1), length)
        elif spare + gone >= room and start > length - start:
            now[:, start:length] = now[:, start + gone :].clone()
            self.length = length
        elif spare >= room:
            now[:, gone : gone + start] = now[:, :start].clone()
            self._start, self.length = self._start + gone, length
        else:
            held = now.new_empty(len(now), length + max(room, length // SPARE), *now.shape[2:])
            held[:, :start], held[:, start:length] = now[:, :start], now[:, start + gone :]
            self._put(held, length)

    def select(self, kept: Int[Tensor, "lanes kept"], *, room: int = 0) -> "Buffer":
        """A buffer of these entries of every lane, with room for `room` more."""
        lanes, size = self._held.shape[:2]
        if not size:
            return Buffer(self._held, room=room)
        filled = F.pad(kept, (0, room))  # the room holds copies until something comes
        first = self._start + size * torch.arange(lanes, device=kept.device)
        made = Buffer(self._held[:, :0])
        rows = self._held.flatten(0, 1).index_select(0, (filled + first[:, None]).flatten())
        made._put(rows.unflatten(0, filled.shape), kept.shape[1])
        return made

    def take(self, chosen: Int[Tensor, " chosen"]) -> "Buffer":
        """A buffer of these lanes."""
        return Buffer(self.now[chosen], room=self._held.shape[1] - self.length)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Buffer":
        made = Buffer(self._held[:, :0])
        made._held, made._start, made.length = self._held.clone(), self._start, self.length
        return made

    def _writable(self) -> Tensor:
        """What came in inference mode may be written to there alone, so outside of it there is a copy."""
        if self._held.is_inference() and not torch.is_inference_mode_enabled():
            self._held = self._held.clone()
        return self._held

    def _learning(self, new: Tensor) -> bool:
        """Gradients need what was there before, so nothing is written over."""
        return torch.is_grad_enabled() and (new.requires_grad or self._held.requires_grad)

    def _put(self, held: Tensor, length: int) -> None:
        self._held, self._start, self.length = held, 0, length


def _roomy(entries: Tensor, room: int) -> Tensor:
    """A copy of the entries with unused room behind them."""
    lanes, length = entries.shape[:2]
    held = entries.new_empty(lanes, length + room, *entries.shape[2:])
    held[:, :length] = entries
    return held
