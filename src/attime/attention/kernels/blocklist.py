"""The list that block-sparse attention runs on: which key blocks each query block reads, and which of them need a mask."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, final

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from attime.errors import AttimeError

__all__ = ["BlockList", "Row"]


class Row(NamedTuple):
    """One query block, spelled out: queries from `start` to `stop` read the keys in `runs`, laid end to end."""

    start: int
    stop: int
    runs: tuple[tuple[int, int], ...]
    """Keys from, to."""
    hidden: tuple[tuple[int, int, Tensor], ...]
    """Columns from, to (of the runs laid end to end), and which pairs there are not seen."""
    blind: Tensor | None
    """Which of these queries see nothing at all; None when there are none."""

    @property
    def columns(self) -> int:
        """Keys read."""
        return sum(stop - start for start, stop in self.runs)


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
    on: Callable[[torch.device], Callable[[Tensor, Tensor, Tensor | None], Tensor]] | None = None
    """The same rule with its tables on another device, where it has tables."""

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

    @cached_property
    def rows(self) -> tuple[tuple[Row, ...], ...]:
        """Per head, the query blocks spelled out. Blocks that turn out empty are left out, whole ones unmasked."""
        known: dict[bytes, Tensor] = {}
        return tuple(
            tuple(self._row(head, number, columns, known) for number, columns in enumerate(_by_row(self.some[head])))
            for head in range(self.heads)
        )

    def _row(self, head: int, number: int, columns: list[int], known: dict[bytes, Tensor]) -> Row:
        start, size = number * self.size, self.size
        stop, end = min(start + size, self.query.numel()), self.key.numel()
        whole = dict(zip(columns, self.every[head, number, columns].tolist(), strict=True)) if columns else {}
        checked = [column for column in columns if not whole[column]]
        pieces: dict[int, Tensor] = {}
        if checked:
            places = (torch.tensor(checked)[:, None] * size + torch.arange(size)).flatten()
            inside = places < end
            query, key = self.query[start:stop, None], self.key[places.clamp(max=end - 1)]
            seen = self.allows(query, key, torch.tensor(head)).expand(stop - start, key.numel()) & inside
            for column, piece in zip(checked, seen.split(size, 1), strict=True):
                pieces[column] = piece[:, : end - column * size]
        columns = [column for column in columns if whole[column] or bool(pieces[column].any())]
        runs: list[tuple[int, int]] = []
        hidden: list[tuple[int, int, Tensor]] = []
        blind, width = torch.ones(stop - start, dtype=torch.bool), 0
        for column in columns:
            first, last = column * size, min(column * size + size, end)
            joins = bool(runs) and runs[-1][1] == first
            runs = [*runs[:-1], (runs[-1][0], last)] if joins else [*runs, (first, last)]
            if not whole[column] and not bool(pieces[column].all()):
                unseen = (~pieces[column]).contiguous()
                unseen = known.setdefault(unseen.numpy().tobytes() + bytes(str(unseen.shape), "ascii"), unseen)
                hidden.append((width, width + last - first, unseen))
                blind &= unseen.all(1)
            else:
                blind[:] = False
            width += last - first
        return Row(start, stop, tuple(runs), tuple(hidden), blind if bool(blind.any()) else None)

    def dense(self) -> Bool[Tensor, "heads queries keys"]:
        """The mask that the list stands for, pair by pair: for tests and drawings."""
        mask = torch.zeros(self.heads, self.query.numel(), self.key.numel(), dtype=torch.bool)
        for head, rows in enumerate(self.rows):
            for row in rows:
                seen = torch.ones(row.stop - row.start, row.columns, dtype=torch.bool)
                for start, stop, unseen in row.hidden:
                    seen[:, start:stop] = ~unseen
                for piece, (start, stop) in zip(
                    seen.split([stop - start for start, stop in row.runs], 1), row.runs, strict=True
                ):
                    mask[head, row.start : row.stop, start:stop] = piece
        return mask

    def block_mask(self, device: str | torch.device = "cpu", *, heads: int | None = None) -> BlockMask:
        """The list as FlexAttention takes it, for clips of exactly these lengths (and for so many heads of queries)."""
        query, key = self.query.to(device), self.key.to(device)
        groups = 1 if heads is None or self.heads == 1 else heads // self.heads
        allows = self.on(query.device) if self.on else self.allows

        def allowed(_batch: Tensor, head: Tensor, q_index: Tensor, kv_index: Tensor) -> Tensor:
            seen = allows(query[q_index], key[kv_index], head // groups)
            return seen & (q_index >= 0)  # a rule about keys alone must still depend on both

        whole = self.every.clone()  # FlexAttention masks tokens past the end only in blocks that are not whole
        whole[:, self.query.numel() // self.size :] = False
        whole[:, :, self.key.numel() // self.size :] = False
        partial, full = (
            _indices(table.repeat_interleave(groups, 0).to(device)) for table in (self.some & ~whole, whole)
        )
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


def _by_row(table: Bool[Tensor, "query_blocks key_blocks"]) -> list[list[int]]:
    columns = table.nonzero()[:, 1].tolist()
    ends = table.sum(-1).cumsum(0).tolist()
    return [columns[start:end] for start, end in zip([0, *ends], ends, strict=False)]
