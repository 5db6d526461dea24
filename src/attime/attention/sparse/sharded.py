r"""Sparsely-sharded attention: each head sees the near past and its own shard of the far past, by blocks of tokens.

    o_i = sum_j softmax_j(q_i k_j / sqrt(d)) v_j        j <= i, a = i // block, b = j // block
    a - b < local   or   (b + h step + shift) mod stride = 0        step = max(1, stride // heads)

The shards are absolute columns: a key outside the local blocks and outside its head's shard is never read again, so
the state drops it, head by head. Heads together hold every column where heads * step >= stride.

Source:  S2-Attention, arXiv 2407.17678, sec. 3; rule and defaults checked against its public kernels.
Names:   our `local`, `stride`, `shift` are their local_blocks, vert_stride, head_sliding_offset.
Cost:    4 C (local block + T / stride) operations per token; as many keys and values are kept per head.
Differs: no dense heads and no shared key heads: stack dense layers in between, as the paper advises.
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
from attime.attention.kernels.blocks import attend_blocks
from attime.attention.spans import Strided
from attime.attention.state import State

__all__ = ["Sharded"]

NOWHERE = torch.iinfo(torch.int32).max  # the position of an empty slot: later than any query
LARGE = range(32, 513)  # shards that the kernel takes as its blocks: then none of them needs a mask
PIECE = 256  # a machine constant: queries between two evictions


@dataclass(frozen=True)
class ShardedState(State):
    """What each head still needs of the past, in the order of time; heads with less than the longest have empty slots."""

    keys: Float[Tensor, "batch heads slots head_dim"]
    values: Float[Tensor, "batch heads slots head_dim"]
    positions: Int[Tensor, "batch heads slots"]
    length: Int[Tensor, " batch"]
    """Tokens seen so far, kept or not."""


@final
class Sharded(Mixer):
    """Softmax attention with another shard of the past for each head (see the module docstring)."""

    traits: ClassVar[Traits] = Traits()

    def __init__(
        self, dim: int, *, heads: int = 8, stride: int = 8, local: int = 16, block: int = 64, shift: int = 0
    ) -> None:
        super().__init__()
        self.dim, self.heads, self.head_dim = dim, heads, per_head(dim, heads, who="Sharded")
        self.span = Strided(heads, stride=stride, local=local, block=block, shift=shift)
        self.inputs = nn.Linear(dim, 3 * dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)

    def begin(self, x: Tensor) -> ShardedState:
        empty = x.new_zeros(x.shape[0], self.heads, 0, self.head_dim)
        positions = torch.zeros(empty.shape[:3], dtype=torch.int32, device=x.device)
        return ShardedState(empty, empty, positions, positions.new_zeros(x.shape[0]))

    def mix(self, x: Tensor, state: ShardedState, valid: Tensor | None) -> tuple[Tensor, ShardedState]:
        q, k, v = (split_heads(each, self.heads) for each in self.inputs(x).chunk(3, dim=-1))
        there = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if valid is None else valid
        if state.positions.shape[2] == 0:  # padding stands at the end, where nothing valid looks
            size = self.span.block if self.span.block in LARGE else 128
            out = attend_blocks(q, k, v, self.span.blocks(x.shape[1], size=size))
            return self.output(join_heads(out)), self._evict(_extend(state, k, v, there))
        outputs = []
        for q_c, k_c, v_c, there_c in zip(
            q.split(PIECE, 2), k.split(PIECE, 2), v.split(PIECE, 2), there.split(PIECE, 1), strict=True
        ):
            place = state.length[:, None, None] + torch.arange(q_c.shape[2], dtype=torch.int32, device=x.device)
            before = state.length // self.span.block
            state = _extend(state, k_c, v_c, there_c)
            seen = self._sees(place, state.positions[:, :, None]) | ~there_c[:, None, :, None]
            outputs.append(F.scaled_dot_product_attention(q_c, state.keys, state.values, attn_mask=seen))
            if bool((state.length // self.span.block != before).any() | ~there_c.all()):
                state = self._evict(state)  # within a block every key stays needed
        return self.output(join_heads(torch.cat(outputs, dim=2))), state

    def reference(self, x: Tensor) -> Tensor:
        q, k, v = (split_heads(each, self.heads) for each in self.inputs(x).chunk(3, dim=-1))
        span, token = self.span, torch.arange(x.shape[1], device=x.device)
        far = token[:, None] // span.block - token // span.block
        step = max(1, span.stride // self.heads)
        column = (
            torch.stack([token // span.block + head * step + span.shift for head in range(self.heads)]) % span.stride
        )
        seen = (far >= 0) & ((far < span.local) | (column == 0)[:, None]) & (token[:, None] >= token)
        scores = (q @ k.mT / self.head_dim**0.5).masked_fill(~seen, -torch.inf)
        return self.output(join_heads(scores.softmax(-1) @ v))

    def _sees(self, place: Tensor, positions: Tensor) -> Tensor:
        """The span's mask, for queries (batch 1 time) and keys (batch heads 1 slots)."""
        heads = torch.arange(self.heads, device=place.device)[:, None, None]
        return self.span.allows(place[..., None], positions, heads)

    def _evict(self, state: ShardedState) -> ShardedState:
        """Drop what no query from here on may see."""
        heads = torch.arange(self.heads, device=state.length.device)[:, None]
        needed = self.span.needed(state.positions, state.length[:, None, None], heads) & (state.positions != NOWHERE)
        slots = int(needed.sum(-1).max())
        kept = (~needed).to(torch.int8).argsort(dim=-1, stable=True)[..., :slots]  # the needed first, in their order
        positions = state.positions.where(needed, NOWHERE).gather(2, kept)
        at = kept[..., None].expand(-1, -1, -1, self.head_dim)
        keys, values = (each.gather(2, at) for each in (state.keys, state.values))
        return ShardedState(keys, values, positions, state.length)

    def cost(self, length: int, dtype: torch.dtype = torch.float32) -> Cost:
        heads = torch.arange(self.heads)[:, None]
        kept = self.span.needed(torch.arange(length), length, heads).sum(-1)
        each = 2 * self.head_dim * dtype.itemsize + 4
        operations = 4 * self.head_dim * int(kept.sum() + self.heads)
        return Cost(
            operations=operations,
            state_bytes=self.heads * int(kept.max()) * each + 4,
            read_bytes=int(kept.sum()) * each,
        )

    @classmethod
    def examples(cls) -> Sequence["Sharded"]:
        return [cls(8, heads=2, stride=3, local=1, block=2), cls(12, heads=3, stride=2, local=2, block=3, shift=1)]


def _extend(state: ShardedState, k: Tensor, v: Tensor, there: Tensor) -> ShardedState:
    """The state and a chunk after it, nothing dropped yet; padding goes to empty slots."""
    place = (state.length[:, None] + torch.arange(k.shape[2], device=k.device)).to(torch.int32)
    place = place.masked_fill(~there, NOWHERE)[:, None].expand(-1, k.shape[1], -1)
    return ShardedState(
        torch.cat([state.keys, k.to(state.keys.dtype)], dim=2),
        torch.cat([state.values, v.to(state.values.dtype)], dim=2),
        torch.cat([state.positions, place], dim=2),
        state.length + there.sum(1, dtype=torch.int32),
    )
