r"""Softmax attention to a window and, in a softmax of its own, to chunks brought back from before it; a gate per head mixes them.

    o_t = (1 - sigmoid(b)) sum_{j in window} softmax_j(q_t k_j / sqrt(d)) v_j + sigmoid(b) sum_{j in C_t} softmax_j(q_t k_j / sqrt(d)) v_j
    r_c = q_t . mean of the keys of chunk c        C_t = the `top` chunks with the largest r_c among those that have left the window

Keys and queries are turned by their position inside the window; what is brought back has none. b starts at 0.

Source:  LongMem, arXiv 2306.07174, sec. 2.3 and 2.4, and its public code; its gate is that of Memorizing Transformers, 2203.08913.
Names:   our `top` * `chunk` is their K, `chunk` their csz, b their memory bias.
Cost:    time O(T (window + T / chunk + top chunk) d); the state keeps everything and one mean key per chunk.
Differs: keys and values are the layer's own, where LongMem's come from a frozen model (`hub.side`), and gradients flow into
         them; rotation and not ALiBi. As long as nothing has left the window the gate is not asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attime.attention.contract import Cost, Mixer, Traits
from attime.attention.heads import join_heads, per_head, split_heads
from attime.attention.past import Past, attend_past
from attime.attention.rotary import check_rotary, rotate, turns
from attime.attention.spans import Window
from attime.attention.state import State
from attime.errors import AttimeError

__all__ = ["GatedRetrieval", "gated"]

QUERIES = 64  # a machine constant: queries whose chunks are gathered at once

Heads = Float[Tensor, "batch heads time head_dim"]
Found = Float[Tensor, "batch kv_heads time entries head_dim"]


def gated(
    near: Heads,
    q: Heads,
    keys: Found,
    values: Found,
    gate: Float[Tensor, " heads"],
    *,
    scale: float,
    seen: Bool[Tensor, "batch kv_heads time entries"] | None = None,
) -> Heads:
    """`near` mixed with each query's attention to what it brought back; a query that sees none of it keeps `near`."""
    wide = torch.promote_types(q.dtype, torch.float32)
    asked = q.unflatten(1, (keys.shape[1], -1)).transpose(2, 3)
    scores = (asked @ keys.mT).to(wide) * scale
    if seen is not None:
        scores = scores.masked_fill(~seen[:, :, :, None], torch.finfo(wide).min)
    far = (scores.softmax(-1).to(values.dtype) @ values).transpose(2, 3).flatten(1, 2)
    share = gate.to(wide).sigmoid()[:, None, None]
    if seen is not None:
        share = share * seen.any(-1).repeat_interleave(q.shape[1] // keys.shape[1], 1)[..., None]
    return torch.lerp(near.to(wide), far.to(wide), share.expand_as(near)).to(near.dtype)


@dataclass(frozen=True)
class RetrievalState(State):
    """All keys, as they are without their positions, and values; the mean keys of full chunks."""

    past: Past
    summaries: Float[Tensor, "batch heads chunks head_dim"]


@final
class GatedRetrieval(Mixer):
    """A window and what is brought back from before it, mixed by a gate per head (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(valid=False)

    def __init__(
        self, dim: int, *, heads: int = 2, window: int = 128, chunk: int = 4, top: int = 16, base: float = 10000.0
    ) -> None:
        super().__init__()
        self.dim, self.heads, self.head_dim = dim, heads, per_head(dim, heads, who="GatedRetrieval")
        if min(window, chunk, top) < 1:
            raise AttimeError(
                f"GatedRetrieval needs window, chunk and top >= 1; got window={window}, chunk={chunk}, top={top}."
            )
        check_rotary(self.head_dim, who="GatedRetrieval")
        self.window, self.chunk, self.top, self.base = window, chunk, top, base
        self.inputs = nn.Linear(dim, 3 * dim, bias=False)
        self.gate = nn.Parameter(torch.zeros(heads))
        self.output = nn.Linear(dim, dim, bias=False)

    def begin(self, x: Tensor) -> RetrievalState:
        past = Past.empty(x, self.heads, self.head_dim)
        return RetrievalState(past, past.keys)

    def mix(self, x: Tensor, state: RetrievalState, valid: Tensor | None) -> tuple[Tensor, RetrievalState]:
        q, k, v = (split_heads(each, self.heads) for each in self.inputs(x).chunk(3, dim=-1))
        when = state.past.seen[:, None] + torch.arange(x.shape[1], device=x.device)
        past = state.past.append(k, v, when)
        start = max(0, state.past.slots - self.window + 1)
        turned = rotate(past.keys[:, :, start:], turns(past.when[:, start:], self.head_dim, base=self.base))
        latest = Past(turned, past.values[:, :, start:], past.when[:, start:])
        out = attend_past(rotate(q, turns(when, self.head_dim, base=self.base)), latest, Window(self.window))
        done, count = state.summaries.shape[2], past.slots // self.chunk
        summaries = state.summaries
        if count > done:
            new = past.keys[:, :, done * self.chunk : count * self.chunk].unflatten(2, (-1, self.chunk)).mean(3)
            summaries = torch.cat([summaries, new.to(summaries.dtype)], dim=2)
        finished = ((when[0] - self.window + 1) // self.chunk).clamp(min=0)
        parts = zip(*(each.split(QUERIES, dim) for each, dim in ((out, 2), (q, 2), (finished, 0))), strict=True)
        out = torch.cat([self._far(past, summaries, *part) for part in parts], dim=2)
        return self.output(join_heads(out).to(x.dtype)), RetrievalState(past, summaries)

    def _far(self, past: Past, summaries: Tensor, near: Tensor, q: Tensor, finished: Tensor) -> Tensor:
        """Outputs of queries before which so many chunks have left the window."""
        count = int(finished[-1])
        if not count:
            return near
        q = q.to(past.keys.dtype)
        seen = torch.arange(count, device=q.device) < finished[:, None]
        rates = (q @ summaries[:, :, :count].mT).masked_fill(~seen, -torch.inf)
        chosen = rates.topk(min(self.top, count), dim=-1).indices
        rows, heads, time, top = chosen.shape
        chunks = (each[:, :, : count * self.chunk].unflatten(2, (count, -1)) for each in (past.keys, past.values))
        first = torch.arange(rows * heads, device=q.device).view(rows, heads, 1, 1) * count
        taken = [each.flatten(0, 2).index_select(0, (chosen + first).flatten()) for each in chunks]
        keys, values = (each.view(rows, heads, time, top * self.chunk, -1) for each in taken)
        known = seen.expand_as(rates).gather(3, chosen).repeat_interleave(self.chunk, dim=3)
        return gated(near, q, keys, values, self.gate, scale=self.head_dim**-0.5, seen=known)

    def reference(self, x: Tensor) -> Tensor:
        q, k, v = (split_heads(each, self.heads) for each in self.inputs(x).chunk(3, dim=-1))
        time = torch.arange(x.shape[1], device=x.device)
        age, scale = time[:, None] - time, self.head_dim**-0.5
        turned = [rotate(each, turns(time[None], self.head_dim, base=self.base)) for each in (q, k)]
        inside = (age >= 0) & (age < self.window)
        near = (turned[0] @ turned[1].mT * scale).masked_fill(~inside, -torch.inf).softmax(-1) @ v
        rows = []
        for t in range(x.shape[1]):
            count = max(0, t - self.window + 1) // self.chunk
            if not count:
                rows.append(near[:, :, t])
                continue
            before = slice(0, count * self.chunk)
            rates = (k[:, :, before].unflatten(2, (count, -1)).mean(3) @ q[:, :, t, :, None])[..., 0]
            best = torch.zeros_like(rates).scatter(2, rates.topk(min(self.top, count)).indices, 1.0)
            scores = (k[:, :, before] @ q[:, :, t, :, None])[..., 0] * scale
            scores = scores.masked_fill(best.repeat_interleave(self.chunk, 2) == 0, -torch.inf)
            far, gate = (scores.softmax(-1)[:, :, None] @ v[:, :, before])[:, :, 0], self.gate.sigmoid()[:, None]
            rows.append((1 - gate) * near[:, :, t] + gate * far)
        return self.output(join_heads(torch.stack(rows, dim=2)))

    def cost(self, length: int, dtype: torch.dtype = torch.float32) -> Cost:
        chunks, finished = length // self.chunk, max(0, length - self.window + 1) // self.chunk
        read = 2 * min(length, self.window - 1) + finished + 2 * min(self.top, finished) * self.chunk
        return Cost(
            operations=2 * self.dim * (read + 2),
            state_bytes=(2 * length + chunks) * self.dim * dtype.itemsize + length * torch.int64.itemsize,
            read_bytes=read * self.dim * dtype.itemsize,
        )

    @classmethod
    def examples(cls) -> Sequence["GatedRetrieval"]:
        return [
            cls(8, window=3, chunk=2, top=100),
            cls(12, heads=3, window=4, chunk=1, top=3, base=100.0),
            cls(8, window=1, chunk=3, top=2),
        ]
