r"""Softmax attention to a sliding window of the past and to the first few tokens (attention sinks).

    o_t = sum_{j in S_t} softmax_j(q_t k_j^T / sqrt(d)) v_j        S_t = {j <= t: t - j < window or j < sinks}

What a query may see in training and what a stream throws away both follow from one span. With rope=True distances are
those inside the cache: a sink is never farther away than `sinks` + `window` - 1.

Source:  Longformer, arXiv 2004.05150, sec. 3.1 (window); StreamingLLM, arXiv 2309.17453, sec. 3.2 (sinks, positions).
Cost:    time O(T (window + sinks) d); state `sinks` + `window` - 1 keys and values.
Differs: sinks are ordinary first tokens, trained with; no extra learned token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Int
from torch import Tensor, nn

from attime.attention.contract import Cost, Mixer, Traits
from attime.attention.heads import join_heads, per_head, split_heads
from attime.attention.kernels.merge import Piece, merge, partial
from attime.attention.past import Past, attend_past
from attime.attention.rotary import check_rotary, rotate, turns
from attime.attention.spans import Causal, Sinks, Window
from attime.attention.state import State
from attime.errors import AttimeError

__all__ = ["SlidingWindow"]


@dataclass(frozen=True)
class WindowState(State):
    """The first tokens, the latest ones, and how many there have been."""

    first: Past
    latest: Past
    seen: Int[Tensor, " batch"]


@final
class SlidingWindow(Mixer):
    """Softmax attention to the last `window` tokens, itself included, and the first `sinks` (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(bounded=True)

    def __init__(
        self, dim: int, *, heads: int = 2, window: int = 128, sinks: int = 0, rope: bool = True, base: float = 10000.0
    ) -> None:
        super().__init__()
        self.dim, self.heads, self.head_dim = dim, heads, per_head(dim, heads, who="SlidingWindow")
        if window < 1 or sinks < 0:
            raise AttimeError(f"SlidingWindow needs window >= 1 and sinks >= 0; got window={window}, sinks={sinks}.")
        if rope:
            check_rotary(self.head_dim, who="SlidingWindow")
        self.window, self.sinks, self.rope, self.base = window, sinks, rope, base
        self.span = (Window(window) | Sinks(sinks)) & Causal()
        self.inputs = nn.Linear(dim, 3 * dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)

    def begin(self, x: Tensor) -> WindowState:
        none = Past.empty(x, self.heads, self.head_dim)
        return WindowState(none, none, none.seen)

    def mix(self, x: Tensor, state: WindowState, valid: Tensor | None) -> tuple[Tensor, WindowState]:
        q, k, v = (split_heads(each, self.heads) for each in self.inputs(x).chunk(3, dim=-1))
        when = state.seen[:, None] + torch.arange(x.shape[1], device=x.device)
        turned = self._turn(q, when), self._turn(k, when)
        there = when if valid is None else when.masked_fill(~valid, -1)
        joined = state.latest.append(turned[1], v, there)
        first = self._first(state.first, turned[1], v, there)
        # sinks are attended apart, once they have left the window: their distance is another
        skip = max(self.window - 1 - state.latest.slots, 0) if self.sinks else x.shape[1]
        span = Causal() if joined.slots <= self.window else Window(self.window)
        if skip >= x.shape[1]:
            out = attend_past(turned[0], joined, span)
        else:
            near, lse = attend_past(turned[0], joined, span, with_lse=True)
            far = self._far(q[:, :, skip:], when[:, skip:], first)
            late, _ = merge((near[:, :, skip:], lse[:, :, skip:]), far)
            out = torch.cat([near[:, :, :skip], late], 2) if skip else late
        out = self.output(join_heads(out).to(x.dtype))
        seen = state.seen + (x.shape[1] if valid is None else valid.sum(1))
        joined = joined if valid is None else joined.aligned()
        return out, WindowState(first, joined.latest(self.window - 1), seen)

    def _first(self, first: Past, k: Tensor, v: Tensor, when: Tensor) -> Past:
        """The sinks after this chunk: its tokens at positions before `sinks`, if any."""
        count = min(self.sinks - (first.slots if first.even else 0), when.shape[1])
        if count <= 0:
            return first
        when = when[:, :count].masked_fill(when[:, :count] >= self.sinks, -1)
        return first.append(k[:, :, :count], v[:, :, :count], when).aligned()

    def _far(self, q: Tensor, when: Tensor, first: Past) -> Piece:
        """Attention to the sinks that have left the window, at their distance inside the cache."""
        q = self._turn(q, when.clamp(max=self.sinks + self.window - 1)).to(first.keys.dtype)
        key, query = first.when[:, None, None, :], when[:, None, :, None]
        seen = (key >= 0) & self.span.allows(query, key) & ~Window(self.window).allows(query, key)
        return partial(q, first.keys, first.values, mask=seen)

    def _turn(self, x: Tensor, when: Tensor) -> Tensor:
        return rotate(x, turns(when, self.head_dim, base=self.base)) if self.rope else x

    def reference(self, x: Tensor) -> Tensor:
        q, k, v = (split_heads(each, self.heads) for each in self.inputs(x).chunk(3, dim=-1))
        time = torch.arange(x.shape[1], device=x.device)
        distant = time.clamp(max=self.sinks + self.window - 1)
        k = self._turn(k, time[None])
        near, far = (self._turn(q, at[None]) @ k.mT / self.head_dim**0.5 for at in (time, distant))
        scores = torch.where(time[:, None] - time < self.window, near, far)
        weights = scores.masked_fill(~self.span.dense(x.shape[1]).to(x.device), -torch.inf).softmax(-1)
        return self.output(join_heads(weights @ v))

    def cost(self, length: int, dtype: torch.dtype = torch.float32) -> Cost:
        slots = min(length, self.sinks) + min(length, self.window - 1)
        size = 2 * slots * self.dim * dtype.itemsize
        held = size + (slots + 1) * torch.int64.itemsize
        return Cost(operations=4 * self.dim * (slots + 1), state_bytes=held, read_bytes=size)

    @classmethod
    def examples(cls) -> Sequence["SlidingWindow"]:
        return [
            cls(8, window=5),
            cls(12, heads=3, window=4, sinks=2),
            cls(8, window=6, sinks=3, base=100.0),
            cls(8, window=2, sinks=1, rope=False),
        ]
