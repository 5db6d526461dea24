"""The list that block-sparse attention runs on: which key blocks each query block reads, and which of them need a mask."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, final

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask

from attime.errors import AttimeError

__all__ = ["BlockList", "Row"]

FLEX_BLOCK = 128  # tokens per block that FlexAttention's kernels divide
AT_ONCE = 64  # blocks whose pairs are asked about together


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

    def coarser(self, factor: int) -> "BlockList":
        """The same list in blocks `factor` times as large."""
        tables = []
        for table, ends in ((self.some, False), (self.every, True)):
            spare = [-count % factor for count in table.shape[1:]]
            wide = F.pad(table, (0, spare[1], 0, spare[0]), value=ends)
            tiles = wide.unflatten(2, (-1, factor)).unflatten(1, (-1, factor)).transpose(2, 3).flatten(3)
            tables.append(tiles.all(-1) if ends else tiles.any(-1))
        return replace(self, size=self.size * factor, some=tables[0], every=tables[1])

    @cached_property
    def rows(self) -> tuple[tuple[Row, ...], ...]:
        """Per head, the query blocks spelled out. Blocks that turn out empty are left out, whole ones unmasked."""
        known: dict[tuple[bytes, int], Tensor] = {}
        return tuple(tuple(self._spelled(head, known)) for head in range(self.heads))

    def _spelled(self, head: int, known: dict[tuple[bytes, int], Tensor]) -> Iterator[Row]:
        listed = self.some[head].nonzero().tolist()
        masked = self._masks(head, known)
        by_row: list[list[int]] = [[] for _ in range(self.some.shape[1])]
        for row, column in listed:
            by_row[row].append(column)
        for number, columns in enumerate(by_row):
            start = number * self.size
            stop = min(start + self.size, self.query.numel())
            runs: list[tuple[int, int]] = []
            hidden: list[tuple[int, int, Tensor]] = []
            width, blind = 0, True
            for column in columns:
                unseen = masked.get((number, column), ...)
                if unseen is None:
                    continue
                first, last = column * self.size, min(column * self.size + self.size, self.key.numel())
                joins = bool(runs) and runs[-1][1] == first
                runs = [*runs[:-1], (runs[-1][0], last)] if joins else [*runs, (first, last)]
                if isinstance(unseen, Tensor):
                    hidden.append((width, width + last - first, unseen))
                else:
                    blind = False
                width += last - first
            none = torch.cat([each for *_, each in hidden], 1).all(1) if hidden and blind else None
            yield Row(start, stop, tuple(runs), tuple(hidden), none if none is not None and bool(none.any()) else None)

    def _masks(self, head: int, known: dict[tuple[bytes, int], Tensor]) -> dict[tuple[int, int], Tensor | None]:
        """What is not seen in the blocks that are not whole; None where nothing is seen; left out where all is."""
        found: dict[tuple[int, int], Tensor | None] = {}
        steps = torch.arange(self.size)
        for pairs in (self.some[head] & ~self.every[head]).nonzero().split(AT_ONCE):
            (rows, query), (columns, key) = ((place, place[:, None] * self.size + steps) for place in pairs.unbind(1))
            ends = self.query.numel(), self.key.numel()
            inside = (query < ends[0])[:, :, None] & (key < ends[1])[:, None]
            seen = self.allows(
                self.query[query.clamp(max=ends[0] - 1)][:, :, None],
                self.key[key.clamp(max=ends[1] - 1)][:, None],
                torch.tensor(head),
            ).expand(inside.shape)
            some, every = (seen & inside).flatten(1).any(1).tolist(), (seen | ~inside).flatten(1).all(1).tolist()
            for row, column, unseen, part, whole in zip(
                rows.tolist(), columns.tolist(), (~seen).unbind(0), some, every, strict=True
            ):
                if not part:
                    found[row, column] = None
                elif not whole:
                    piece = unseen[: ends[0] - row * self.size, : ends[1] - column * self.size].contiguous()
                    found[row, column] = known.setdefault((piece.numpy().tobytes(), piece.shape[0]), piece)
        return found

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
