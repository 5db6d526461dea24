r"""Gated recurrence within chunks of time, softmax attention across them.

    k~_t = f_t k~_{t-1} + (1 - f_t) k_t,   v~_t likewise,   both from zero at the start of each chunk     f = sigmoid
    o_t  = softmax over { k~ at the ends of earlier chunks, k~_t } of q_t, applied to v~       out = W (sigmoid(z_t) o_t)

Source:  RAT, arXiv 2507.04416, sec. 3 and its public code (gates, groups of keys, rotation by chunk index).
Names:   our `chunk` is their L (16 in the headline results), `groups` their ngroups.
Cost:    time O(T^2 dim / chunk); state two vectors per chunk and the running two. chunk=1 is attention, chunk >= T a gated RNN.
Differs: running keys and values stay in float32; the norm and the residual belong to the block around it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from attime.attention.contract import Cost, Mixer, Traits
from attime.attention.heads import join_heads, per_head, split_heads
from attime.attention.kernels.merge import merge, partial
from attime.attention.kernels.scan import scan
from attime.attention.rotary import rotate, turns
from attime.attention.state import State
from attime.errors import AttimeError

__all__ = ["ChunkGated"]

QUERIES = 256  # a machine constant: queries whose scores are made at once


@dataclass(frozen=True)
class ChunkGatedState(State):
    """The ends of finished chunks, what runs in the present one, and how many tokens each row has had."""

    keys: Float[Tensor, "batch heads chunks head_dim"]
    """Rotated. Rows with fewer chunks than others have rubbish at the end."""
    values: Float[Tensor, "batch heads chunks head_dim"]
    running: Float[Tensor, "batch two dim"]
    tokens: Int[Tensor, " batch"]


@final
class ChunkGated(Mixer):
    """Attention to the last states of earlier chunks and to the running one (see the module docstring).

    `chunk` belongs to the model. Head h takes its queries and keys from group h % `groups`.
    """

    traits: ClassVar[Traits] = Traits()

    def __init__(self, dim: int, *, heads: int = 2, chunk: int = 16, groups: int = 2) -> None:
        super().__init__()
        self.dim, self.heads, self.head_dim = dim, heads, per_head(dim, heads, who="ChunkGated")
        if chunk < 1 or groups < 1 or heads % groups or self.head_dim % 2:
            raise AttimeError(
                "ChunkGated needs chunk >= 1, groups that divide heads and an even dim / heads; "
                f"got chunk={chunk}, groups={groups}, heads={heads}, dim={dim}."
            )
        self.chunk, self.groups = chunk, groups
        self.inputs = nn.Linear(dim, 3 * dim + 2 * groups * self.head_dim, bias=False)
        self.gate_bias = nn.Parameter(torch.empty(dim).uniform_(1, max(1, chunk - 1)).log())
        self.output = nn.Linear(dim, dim, bias=False)

    def begin(self, x: Tensor) -> ChunkGatedState:
        none = x.new_zeros(x.shape[0], self.heads, 0, self.head_dim)
        running = x.new_zeros(x.shape[0], 2, self.dim, dtype=torch.promote_types(x.dtype, torch.float32))
        return ChunkGatedState(none, none, running, torch.zeros(x.shape[0], dtype=torch.long, device=x.device))

    def mix(self, x: Tensor, state: ChunkGatedState, valid: Tensor | None) -> tuple[Tensor, ChunkGatedState]:
        gate, forget, q, entering = self._project(x)
        place = state.tokens[:, None] + torch.arange(x.shape[1], device=x.device)
        index = place // self.chunk
        with torch.autocast(x.device.type, enabled=False):
            kept = forget * (place % self.chunk != 0)[..., None, None]
            fed = (1 - forget) * entering
            if valid is not None:
                kept = torch.where(valid[..., None, None], kept, 1)
                fed = fed * valid[..., None, None]
            running, last = scan(kept, fed, state.running)
            k, v = (split_heads(each, self.heads) for each in running.unbind(2))
            angles = turns(index, self.head_dim)
            q, k, v = (each.to(x.dtype) for each in (rotate(q, angles), rotate(k, angles), v))
            after = state.tokens + (x.shape[1] if valid is None else valid.sum(1))
            keys, values = self._ends(state, k, v, after)
            out = self._attend(q, k, v, keys, values, index)
        return self.output(join_heads(out) * gate), ChunkGatedState(keys, values, last, after)

    def reference(self, x: Tensor) -> Tensor:
        gate, forget, q, entering = self._project(x)
        place = torch.arange(x.shape[1], device=x.device)
        running, rows = torch.zeros_like(entering[:, 0]), []
        for t, (forget_t, entering_t) in enumerate(zip(forget.unbind(1), entering.unbind(1), strict=True)):
            running = (1 - forget_t) * entering_t + (0 if t % self.chunk == 0 else forget_t * running)
            rows.append(running)
        k, v = (split_heads(each, self.heads) for each in torch.stack(rows, 1).unbind(2))
        q, k = (rotate(each, turns(place[None] // self.chunk, self.head_dim)) for each in (q, k))
        scores = q @ k.mT * self.head_dim**-0.5
        end = (place % self.chunk == self.chunk - 1) & (place[:, None] // self.chunk > place // self.chunk)
        seen = end | torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        return self.output(join_heads(scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v) * gate)

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The output gate, the forget gate (batch time 1 dim), queries, and keys beside values (batch time 2 dim)."""
        shared = self.groups * self.head_dim
        z, v, f, q, k = self.inputs(x).split([self.dim, self.dim, self.dim, shared, shared], dim=-1)
        wide = torch.promote_types(x.dtype, torch.float32)
        forget = (f.to(wide) + self.gate_bias.to(wide)).sigmoid()[:, :, None]
        q, k = (each.repeat(1, 1, self.heads // self.groups) for each in (q, k))
        return z.sigmoid(), forget, split_heads(q, self.heads), torch.stack([k, v], dim=2).to(wide)

    def _ends(self, state: ChunkGatedState, k: Tensor, v: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of all chunks that are finished after this call."""
        same, count = (int(each // self.chunk) for each in (state.tokens.min(), after.max()))
        if same == count:  # no row has finished another chunk
            return state.keys, state.values
        slot = torch.arange(same, count, device=k.device)  # `same` chunks and their slots are finished in every row
        place = (slot + 1) * self.chunk - 1 - state.tokens[:, None]  # where in this call each chunk ends
        taken = place.clamp(0, k.shape[2] - 1)[:, None, :, None].expand(-1, self.heads, -1, self.head_dim)
        earlier = (place < 0)[:, None, :, None]
        found = []
        for before, now in ((state.keys, k), (state.values, v)):
            held, rest = before[:, :, :same], before[:, :, same:]
            rest = F.pad(rest, (0, 0, 0, count - same - rest.shape[2]))
            found.append(torch.cat([held, torch.where(earlier, rest, now.gather(2, taken).to(before.dtype))], dim=2))
        return found[0], found[1]

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, index: Tensor) -> Tensor:
        pieces = []
        for q_c, k_c, v_c, index_c in zip(*(x.split(QUERIES, dim=2) for x in (q, k, v, index[:, None])), strict=True):
            own = v_c, (q_c.to(torch.promote_types(q.dtype, torch.float32)) * k_c).sum(-1) * self.head_dim**-0.5
            reach = min(keys.shape[2], int(index_c.max()))
            if reach:
                seen = torch.arange(reach, device=q.device) < index_c[..., None]
                earlier = (each[:, :, :reach].to(v.dtype) for each in (keys, values))
                own = merge(partial(q_c, *earlier, mask=seen), own)
            pieces.append(own[0])
        return torch.cat(pieces, dim=2)

    def cost(self, length: int, dtype: torch.dtype = torch.float32) -> Cost:
        chunks = length // self.chunk
        running = 2 * self.dim * torch.promote_types(dtype, torch.float32).itemsize + torch.long.itemsize
        size = 2 * chunks * self.dim * dtype.itemsize + running
        return Cost(operations=4 * self.dim * (chunks + 1) + 6 * self.dim, state_bytes=size, read_bytes=size)

    @classmethod
    def examples(cls) -> Sequence["ChunkGated"]:
        return [cls(8, chunk=3), cls(12, heads=3, chunk=1, groups=1)]
