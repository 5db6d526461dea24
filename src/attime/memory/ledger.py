"""What a memory holds, counted and not claimed: tokens seen and kept and bytes, per layer and head."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from attime.memory.past import Past

__all__ = ["Ledger", "Line", "ledger"]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One key-value head of one layer of one row."""

    row: int
    layer: int
    head: int
    seen: int
    kept: int
    nbytes: int
    """Bytes in memory."""
    parked: int = 0
    """Entries beside those kept, attended only where a query brings them back."""


@dataclass(frozen=True)
class Ledger:
    """Every head's line; sums and shares of them."""

    lines: tuple[Line, ...]

    @property
    def nbytes(self) -> int:
        """Bytes really held, spare room and evidence included."""
        return sum(line.nbytes for line in self.lines)

    @property
    def share(self) -> float:
        """Entries kept of those seen, over all heads."""
        return sum(line.kept for line in self.lines) / max(1, sum(line.seen for line in self.lines))

    def __iter__(self) -> Iterator[Line]:
        return iter(self.lines)

    def __str__(self) -> str:
        """One line per layer: tokens seen, fewest and most kept by a head, bytes."""
        told = []
        for layer in sorted({line.layer for line in self.lines}):
            own = [line for line in self.lines if line.layer == layer]
            kept = sorted(line.kept for line in own)
            total = sum(line.nbytes for line in own)
            told.append(f"layer {layer}: seen {own[0].seen:,}, kept {kept[0]:,} to {kept[-1]:,}, {total:,} bytes")
        return "\n".join(told)


def ledger(pasts: Sequence[tuple[Sequence[int], Past]]) -> Ledger:
    """The ledger of these pasts, each with the rows of the batch that it holds."""
    lines = []
    for rows, past in pasts:
        shared = 0 if past.queries is None else past.queries.nbytes // max(1, past.lanes)
        for bank in past.banks:
            each = bank.nbytes // len(bank.lanes) + shared
            parked = 0 if bank.parked is None else bank.parked.entries
            for lane in bank.lanes.tolist():
                row, head = divmod(lane, past.heads)
                counts = {"seen": past.seen, "kept": bank.length, "nbytes": each, "parked": parked}
                lines.append(Line(row=rows[row], layer=past.layer, head=head, **counts))
    return Ledger(tuple(sorted(lines, key=lambda line: (line.row, line.layer, line.head))))
