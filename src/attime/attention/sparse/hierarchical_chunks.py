r"""Attention in two levels: a query finds chunks of the past by their summaries, and then attends inside each of them.

    r_c = g_t . mean over chunk c of s / sqrt(dim)      C_t = the `top` earlier chunks with the largest r_c
    o_t = sum over c in C_t of softmax(r)_c  sum_i softmax_i(q_t (k_i + p_i) / sqrt(head_dim)) v_i

The choice and the weight of a chunk are one for all heads; p_i belongs to a place inside the chunk. Only finished chunks
are seen: what is near is for another block.

Source:  HCAM, arXiv 2105.14039, sec. 3 and appendix (softmax over all chunks; renormalised over the chosen ones in ports).
Names:   our g and s are queries and keys of the summaries.
Cost:    dim per chunk to choose and top * chunk entries to attend, per token; the state keeps everything.
Differs: places inside a chunk by a learned vector each; without `gradient` nothing flows back into what was written, and
         the projections of memory are learnt from the reading.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from attime.attention.contract import Cost, Mixer, Traits
from attime.attention.heads import per_head
from attime.attention.state import State
from attime.errors import AttimeError

__all__ = ["HierarchicalChunks"]

QUERIES = 64  # a machine constant: queries whose chunks are gathered at once


@dataclass(frozen=True)
class ChunksState(State):
    """Finished chunks, the one under way, and how many tokens each row has had."""

    entries: Float[Tensor, "batch chunks chunk two_dim"]
    """Keys and values. Rows with fewer chunks than others have rubbish at the end."""
    summaries: Float[Tensor, "batch chunks dim"]
    under_way: Float[Tensor, "batch chunk three_dim"]
    """Keys, values and summary keys; rubbish behind the last token."""
    tokens: Int[Tensor, " batch"]


@final
class HierarchicalChunks(Mixer):
    """Retrieval of whole chunks, then attention inside them (see the module docstring). `chunk` belongs to the model."""

    traits: ClassVar[Traits] = Traits()

    def __init__(
        self,
        dim: int,
        *,
        heads: int = 2,
        chunk: int = 32,
        top: int = 4,
        renormalised: bool = False,
        gradient: bool = False,
    ) -> None:
        super().__init__()
        self.dim, self.heads, self.head_dim = dim, heads, per_head(dim, heads, who="HierarchicalChunks")
        if chunk < 1 or top < 1:
            raise AttimeError(f"HierarchicalChunks needs chunk >= 1 and top >= 1; got chunk={chunk}, top={top}.")
        self.chunk, self.top, self.renormalised, self.gradient = chunk, top, renormalised, gradient
        self.queries = nn.Linear(dim, 2 * dim, bias=False)
        self.memory = nn.Linear(dim, 3 * dim, bias=False)
        self.places = nn.Parameter(torch.randn(chunk, dim) * dim**-0.5)
        self.output = nn.Linear(dim, dim, bias=False)

    def begin(self, x: Tensor) -> ChunksState:
        rows = len(x)
        return ChunksState(
            x.new_zeros(rows, 0, self.chunk, 2 * self.dim),
            x.new_zeros(rows, 0, self.dim),
            x.new_zeros(rows, self.chunk, 3 * self.dim),
            torch.zeros(rows, dtype=torch.long, device=x.device),
        )

    def mix(self, x: Tensor, state: ChunksState, valid: Tensor | None) -> tuple[Tensor, ChunksState]:
        place = state.tokens[:, None] + torch.arange(x.shape[1], device=x.device)
        k, v, s = self.memory(x if self.gradient else x.detach()).chunk(3, dim=-1)
        written = torch.cat([k + self.places[place % self.chunk], v, s], dim=-1).to(state.under_way.dtype)
        state = self._write(state, written, place, valid)
        q, guide = self.queries(x).chunk(2, dim=-1)
        index = place // self.chunk
        parts = zip(*(each.split(QUERIES, dim=1) for each in (q, guide, index)), strict=True)
        out = torch.cat([self._read(state, *part) for part in parts], dim=1)
        return self.output(out.to(x.dtype)), state

    def _write(self, state: ChunksState, written: Tensor, place: Tensor, valid: Tensor | None) -> ChunksState:
        """The state after these tokens (batch time three_dim) have come to their places."""
        size, before = self.chunk, state.tokens
        after = before + (place.shape[1] if valid is None else valid.sum(1))
        same, count = int(before.min()) // size, int(after.max()) // size  # `same` chunks are finished in every row
        more, held = count - same, state.entries[:, same:]
        rest = F.pad(held, (0, self.dim, 0, 0, 0, more + 1 - held.shape[1])).flatten(1, 2)
        rest = F.pad(rest, (0, 0, 0, 1))  # padding goes to the last slot
        inside = torch.arange(size, device=place.device)
        slot = ((before // size - same) * size)[:, None] + inside
        rest = rest.scatter(1, slot[..., None].expand_as(state.under_way), state.under_way)
        slot = place - same * size if valid is None else (place - same * size).where(valid, rest.shape[1] - 1)
        rest = rest.scatter(1, slot[..., None].expand_as(written), written)
        new = rest[:, : more * size].unflatten(1, (more, size))
        old = F.pad(state.summaries[:, same:], (0, 0, 0, more - held.shape[1]))
        finished = (torch.arange(same, count, device=place.device) < (before // size)[:, None])[..., None]
        summaries = torch.where(finished, old, new[..., 2 * self.dim :].mean(2))
        slot = ((after // size - same) * size)[:, None] + inside
        return ChunksState(
            torch.cat([state.entries[:, :same], new[..., : 2 * self.dim]], dim=1) if more else state.entries,
            torch.cat([state.summaries[:, :same], summaries], dim=1) if more else state.summaries,
            rest.gather(1, slot[..., None].expand_as(state.under_way)),
            after,
        )

    def _read(self, state: ChunksState, q: Tensor, guide: Tensor, index: Tensor) -> Tensor:
        """Outputs (batch time dim) of queries in chunks of these indices."""
        count = state.entries.shape[1]
        if not count:
            return 0 * q
        wide = torch.promote_types(q.dtype, torch.float32)
        rates = (guide @ state.summaries.to(guide.dtype).mT).to(wide) * self.dim**-0.5
        seen = torch.arange(count, device=q.device) < index[..., None]
        rates = rates.masked_fill(~seen, torch.finfo(wide).min)
        chosen = rates.topk(min(self.top, count), dim=-1).indices
        shares = rates.gather(2, chosen).softmax(-1) if self.renormalised else rates.softmax(-1).gather(2, chosen)
        shares = shares * seen.gather(2, chosen)
        first = torch.arange(len(q), device=q.device)[:, None, None] * count
        flat = state.entries.flatten(0, 1).flatten(1).index_select(0, (chosen + first).flatten())
        taken = flat.view(*chosen.shape, self.chunk, -1).to(q.dtype)
        k, v = (each.unflatten(-1, (self.heads, -1)) for each in taken.chunk(2, dim=-1))
        scores = torch.einsum("bthd,btnchd->btnhc", q.unflatten(-1, (self.heads, -1)), k).to(wide)
        inside = (scores * self.head_dim**-0.5).softmax(-1) * shares[..., None, None]
        return torch.einsum("btnhc,btnchd->bthd", inside.to(v.dtype), v).flatten(2)

    def reference(self, x: Tensor) -> Tensor:
        q, guide = self.queries(x).chunk(2, dim=-1)
        k, v, s = self.memory(x if self.gradient else x.detach()).chunk(3, dim=-1)
        k = k + self.places[torch.arange(x.shape[1], device=x.device) % self.chunk]
        outputs = []
        for t in range(x.shape[1]):
            spans = [slice(c * self.chunk, (c + 1) * self.chunk) for c in range(t // self.chunk)]
            if not spans:
                outputs.append(torch.zeros_like(x[:, 0]))
                continue
            rates = torch.stack([(guide[:, t] * s[:, span].mean(1)).sum(-1) for span in spans], dim=-1) * self.dim**-0.5
            best = torch.zeros_like(rates).scatter(1, rates.topk(min(self.top, len(spans))).indices, 1.0)
            over = rates.masked_fill(best == 0, -torch.inf) if self.renormalised else rates
            shares, out = over.softmax(-1) * best, torch.zeros_like(x[:, 0])
            for c, span in enumerate(spans):
                for head in range(self.heads):
                    own = slice(head * self.head_dim, (head + 1) * self.head_dim)
                    scores = (k[:, span, own] @ q[:, t, own, None])[..., 0] * self.head_dim**-0.5
                    said = (scores.softmax(-1)[..., None] * v[:, span, own]).sum(1)
                    out = out + F.pad(shares[:, c, None] * said, (own.start, self.dim - own.stop))
            outputs.append(out)
        return self.output(torch.stack(outputs, dim=1))

    def cost(self, length: int, dtype: torch.dtype = torch.float32) -> Cost:
        chunks = length // self.chunk
        attended = min(self.top, chunks) * self.chunk
        kept = self.chunk * (2 * chunks + 3) * self.dim + chunks * self.dim
        return Cost(
            operations=self.dim * (1 + 2 * chunks + 4 * attended),
            state_bytes=kept * dtype.itemsize + torch.long.itemsize,
            read_bytes=(chunks + 2 * attended) * self.dim * dtype.itemsize,
        )

    @classmethod
    def examples(cls) -> Sequence["HierarchicalChunks"]:
        return [
            cls(8, chunk=3, top=3),
            cls(12, heads=3, chunk=4, top=2, renormalised=True, gradient=True),
            cls(8, chunk=2, top=100, gradient=True),
        ]
