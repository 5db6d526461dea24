"""The list that block-sparse attention runs on: which key blocks each query block reads, and which of them need a mask."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from attime.errors import AttimeError

__all__ = ["BlockList"]


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class BlockList:
    """Key blocks per query block. A block is `size` tokens in a row; the last of a clip may be shorter.

    `heads` is 1 when all heads read alike. `query` and `key` are the positions of the tokens, handed to `allows`, which
    is asked about the single pairs of blocks that are read but not whole.
    """

    size: int
    some: Bool[Tensor, "heads query_blocks key_blocks"]
    """The query block reads something of the key block."""
    every: Bool[Tensor, "heads query_blocks key_blocks"]
    """It reads all of it: no mask is needed."""
    query: Int[Tensor, " queries"]
    key: Int[Tensor, " keys"]
    allows: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    """`allows(query, key, head)` on index tensors that broadcast."""

    def __post_init__(self) -> None:
        queries, keys = (-(-each.numel() // self.size) for each in (self.query, self.key))
        if self.some.shape[1:] != (queries, keys) or self.some.shape != self.every.shape:
            raise AttimeError(
                f"BlockList needs tables of {queries} x {keys} blocks of {self.size} tokens; got some="
                f"{tuple(self.some.shape)} and every={tuple(self.every.shape)}."
            )

    @property
    def heads(self) -> int:
        """1 when all heads read alike."""
        return self.some.shape[0]

    @property
    def density(self) -> float:
        """Blocks read, as a share of all."""
        return self.some.float().mean().item()

    def mask(self, head: int, rows: slice, columns: Tensor) -> Bool[Tensor, "rows columns"]:
        """Single pairs: queries `rows` against the keys at these places, for one head."""
        query, key = self.query[rows, None], self.key[columns]
        seen = self.allows(query, key, torch.as_tensor(head, device=key.device))
        return seen.expand(query.shape[0], key.shape[0])

    def dense(self) -> Bool[Tensor, "heads queries keys"]:
        """The mask that the list stands for, pair by pair: for tests."""
        columns = torch.arange(self.key.numel())
        pairs = torch.stack([self.mask(head, slice(None), columns) for head in range(self.heads)])
        some, every = (
            table.repeat_interleave(self.size, 1).repeat_interleave(self.size, 2)[:, : pairs.shape[1], : pairs.shape[2]]
            for table in (self.some, self.every)
        )
        return every | (some & pairs)

    def block_mask(self, device: str | torch.device = "cpu") -> BlockMask:
        """The list as FlexAttention takes it, for clips of exactly these lengths."""
        query, key = self.query.to(device), self.key.to(device)

        def allowed(_batch: Tensor, head: Tensor, q_index: Tensor, kv_index: Tensor) -> Tensor:
            seen = self.allows(query[q_index], key[kv_index], head)
            return seen & (q_index >= 0)  # a rule about keys alone must still depend on both

        whole = self.every
        if tail := self.query.numel() % self.size or self.key.numel() % self.size:
            assert tail  # FlexAttention masks tokens past the end only in blocks that are not whole
            whole = whole.clone()
            if self.query.numel() % self.size:
                whole[:, -1] = False
            if self.key.numel() % self.size:
                whole[:, :, -1] = False
        partial, full = (_indices(table.to(device)) for table in (self.some & ~whole, whole))
        return BlockMask.from_kv_blocks(
            *partial,
            *full,
            BLOCK_SIZE=self.size,
            mask_mod=allowed,
            seq_lengths=(self.query.numel(), self.key.numel()),
        )


def _indices(table: Bool[Tensor, "heads query_blocks key_blocks"]) -> tuple[Tensor, Tensor]:
    """Per query block how many key blocks, and their numbers first in a row as wide as there are key blocks."""
    order = (~table).to(torch.int8).argsort(dim=-1, stable=True)
    return table.sum(-1, dtype=torch.int32)[None], order.to(torch.int32)[None].contiguous()
