"""The past of softmax mixers: keys, values and their positions, a value like every state, that grows without copying.

A full past and a windowed one are the same thing: slots in order of time, the newest last, dropped from the front. Rows
of a batch may hold different numbers of tokens; the empty slots of a shorter row stand in front, so that distances from
the newest are the same in every row and one list of blocks serves the batch.
"""

from dataclasses import dataclass, field, replace
from typing import Literal, overload

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from attime.attention.kernels.blocks import attend_blocks
from attime.attention.kernels.merge import Piece, partial
from attime.attention.spans import Causal, Span
from attime.attention.state import State

__all__ = ["Past", "attend_past"]

Heads = Float[Tensor, "batch heads time head_dim"]

SPARE = 64  # slots, beside an eighth of those in use: a step then copies about eight slots' worth on average


@dataclass(eq=False)
class _Room:
    """Buffers with spare slots. The past that ends at `used` may write on; every other view is left as it is."""

    buffers: tuple[Tensor, Tensor, Tensor]
    used: int


@dataclass(frozen=True)
class Past(State):
    """Keys and values in slots, the newest last.

    Appending writes into spare slots where this is the newest view of its buffers and no gradient is asked for, and
    copies otherwise, so an older past never changes. `nbytes` counts slots in use; `spare_bytes` what is kept beside.
    """

    keys: Float[Tensor, "batch heads slots head_dim"]
    values: Float[Tensor, "batch heads slots value_dim"]
    when: Int[Tensor, "batch slots"]
    """Position of the token in each slot; -1 where a slot is empty (in front)."""
    even: bool = True
    """No slot is empty."""
    room: _Room | None = field(default=None, repr=False, compare=False)

    @classmethod
    def empty(cls, x: Tensor, heads: int, head_dim: int, value_dim: int | None = None) -> "Past":
        """No slots yet, for a batch like `x` (batch first)."""
        keys, values = (x.new_zeros(x.shape[0], heads, 0, dim) for dim in (head_dim, value_dim or head_dim))
        return cls(keys, values, torch.zeros(x.shape[0], 0, dtype=torch.int64, device=x.device))

    @property
    def slots(self) -> int:
        """Slots per row, empty ones included."""
        return self.when.shape[1]

    @property
    def seen(self) -> Int[Tensor, " batch"]:
        """The position of each row's next token: one more than its newest."""
        if not self.slots:
            return self.when.new_zeros(self.when.shape[0])
        return self.when[:, -1] + 1

    @property
    def spare_bytes(self) -> int:
        """Bytes held beside `nbytes`: slots to grow into, at most an eighth of those in use and 64."""
        if self.room is None:
            return 0
        return sum(buffer.numel() * buffer.element_size() for buffer in self.room.buffers) - self.nbytes

    @torch.compiler.disable()
    def append(
        self,
        keys: Float[Tensor, "batch heads time head_dim"],
        values: Float[Tensor, "batch heads time value_dim"],
        when: Int[Tensor, "batch time"],
    ) -> "Past":
        """This past and then these tokens. Where `when` is -1 (padding, last in its row) call `aligned` after use."""
        if not self.slots:
            return Past(keys, values, when, self.even)
        new = (keys.to(self.keys.dtype), values.to(self.values.dtype), when)
        old = (self.keys, self.values, self.when)
        if torch.is_grad_enabled():  # a backward pass may need what stands in the buffers
            joined = [torch.cat([one, two], _axis(one)) for one, two in zip(old, new, strict=True)]
            return Past(joined[0], joined[1], joined[2], self.even)
        slots, count = self.slots, when.shape[1]
        room = self._own(count)
        if room is None:
            more = slots + count + (slots + count) // 8 + SPARE
            room = _Room((_larger(old[0], more), _larger(old[1], more), _larger(old[2], more)), slots)
        end = room.used = room.used + count
        for buffer, each in zip(room.buffers, new, strict=True):
            _narrow(buffer, end - count, count).copy_(each)
        keys, values, when = (_narrow(buffer, end - slots - count, slots + count) for buffer in room.buffers)
        return Past(keys, values, when, self.even, room)

    @torch.compiler.disable()
    def aligned(self) -> "Past":
        """The same with padding that was appended moved to the front, and cut off where every row has it."""
        there = self.when >= 0
        if self.even and bool(there.all()):
            return self
        order = there.to(torch.int8).argsort(dim=1, stable=True)  # empty slots first, the rest in order
        moved = replace(
            self,
            keys=_take(self.keys, order),
            values=_take(self.values, order),
            when=self.when.gather(1, order),
            even=False,
            room=None,
        )
        return moved.latest(int(there.sum(1).max()))

    def latest(self, count: int) -> "Past":
        """The last `count` slots."""
        drop = max(self.slots - count, 0)
        kept = [_narrow(each, drop, self.slots - drop) for each in (self.keys, self.values, self.when)]
        keys, values, when = (each.clone() for each in kept) if drop > count else kept  # let a long clip go
        even = self.even or bool((when[:, :1] >= 0).all())
        return Past(keys, values, when, even, None if drop > count else self.room)

    def _own(self, count: int) -> _Room | None:
        """The buffers behind this past, if it is their newest view and they have room for `count` more slots."""
        room = self.room
        if room is None or room.used + count > room.buffers[0].shape[2]:
            return None
        if room.buffers[0].is_inference() and not torch.is_inference_mode_enabled():
            return None
        start = room.used - self.slots
        for buffer, each in zip(room.buffers, (self.keys, self.values, self.when), strict=True):
            view = _narrow(buffer, start, self.slots) if start >= 0 else buffer
            if view.data_ptr() != each.data_ptr() or view.shape != each.shape or view.dtype != each.dtype:
                return None
        return room


@overload
def attend_past(q: Heads, past: Past, span: Span, *, with_lse: Literal[False] = False) -> Heads: ...
@overload
def attend_past(q: Heads, past: Past, span: Span, *, with_lse: Literal[True]) -> Piece: ...
def attend_past(q: Heads, past: Past, span: Span, *, with_lse: bool = False) -> Heads | Piece:
    """Attention of the newest tokens, whose keys are in the past already, to all that `span` lets them see.

    The span must be causal and know distances only: slots are counted from the newest, whatever their positions.
    """
    time, before = q.shape[2], past.slots - q.shape[2]
    q = q.to(past.keys.dtype)
    if time == 1 and (with_lse or not past.even):
        out, lse = partial(q, past.keys, past.values, mask=_sees(past, span))
        return (out, lse) if with_lse else out
    if isinstance(span, Causal) and not with_lse:
        if not before:
            grouped = q.shape[1] != past.keys.shape[1]
            return F.scaled_dot_product_attention(q, past.keys, past.values, is_causal=True, enable_gqa=grouped)
        if time == 1:  # queries that share keys stand in one matrix: nothing is repeated
            one = q.squeeze(2).unflatten(1, (past.keys.shape[1], -1))
            return F.scaled_dot_product_attention(one, past.keys, past.values).flatten(1, 2)[:, :, None]
    if past.even or not before:
        return attend_blocks(q, past.keys, past.values, span.blocks(time, past.slots), with_lse=with_lse)
    empty = (past.when[:, :before] < 0).sum(1).tolist()
    rows = [
        attend_blocks(
            q[row, None],
            past.keys[row, None, :, skip:],
            past.values[row, None, :, skip:],
            span.blocks(time, past.slots - skip),
            with_lse=True,
        )
        for row, skip in enumerate(empty)
    ]
    out, lse = (torch.cat(each) for each in zip(*rows, strict=True))
    return (out, lse) if with_lse else out


def _sees(past: Past, span: Span) -> Tensor | None:
    """The mask of the newest token alone, where it needs one."""
    if past.even and isinstance(span, Causal):
        return None
    place = torch.arange(past.slots, device=past.when.device)
    return ((past.when >= 0) & span.allows(place[-1:], place))[:, None, None]


def _axis(x: Tensor) -> int:
    return 1 if x.dim() == 2 else 2


def _narrow(x: Tensor, start: int, count: int) -> Tensor:
    return x.narrow(_axis(x), start, count)


def _larger(x: Tensor, slots: int) -> Tensor:
    shape = [*x.shape]
    shape[_axis(x)] = slots
    larger = x.new_empty(shape)
    _narrow(larger, 0, x.shape[_axis(x)]).copy_(x)
    return larger


def _take(x: Tensor, order: Tensor) -> Tensor:
    return x.gather(2, order[:, None, :, None].expand_as(x))
