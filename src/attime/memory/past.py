"""The past of one layer: banks of lanes, and the verbs by which policies change all of them.

A lane is one key-value head of one row. Lanes with equally many entries lie together in a bank, so a past in which heads
keep different numbers of tokens is a few rectangles, and what is dropped is really freed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attime.errors import AttimeError
from attime.memory.bank import Bank
from attime.memory.buffer import Buffer
from attime.memory.rotary import Rotary
from attime.memory.store import Exact, Store

__all__ = ["Apart", "Bank", "Past", "Scoring"]


@dataclass(frozen=True)
class Scoring:
    """How a model of this class turns q . k into a logit."""

    scale: float
    """Factor on q . k, as a rule 1 / sqrt(head_dim)."""
    window: int | None = None
    """The model itself lets a token see only so many, itself among them."""
    softcap: float | None = None
    """Logits are squeezed by softcap * tanh(logit / softcap)."""


@dataclass(frozen=True)
class Apart:
    """Entries of contexts that were read side by side (`memory.joined`): how much attention they get, and among themselves."""

    start: int
    """Numbers of their tokens, from ..."""
    stop: int
    """... up to here."""
    lag: int
    """By how much the rotary positions of what comes later fall behind the numbers of tokens."""
    temperature: float = 1.0
    """Their logits are divided by it ..."""
    scale: float = 1.0
    """... and the log of their whole mass is multiplied by scale * temperature."""


@dataclass
class Past:
    """What one layer has kept of rows that share their time."""

    heads: int
    """Key-value heads."""
    layer: int = 0
    layers: int = 1
    banks: list[Bank] = field(default_factory=list)
    seen: int = 0
    """Tokens that have come, kept or not."""
    queries: Buffer | None = None
    """(lanes, recent, query heads of the lane, head_dim): the last queries, where a policy asks for them."""
    rotate: Rotary | None = None
    """None where the model has no rotary positions."""
    scoring: Scoring | None = None
    """How the last attention over this past was scored; None before the first."""
    apart: Apart | None = None
    """Where contexts stand side by side among the entries."""
    halted: AttimeError | None = None
    """Why a policy could not act, although nothing is lost: raised, once, before anything more comes in."""

    @property
    def lanes(self) -> int:
        """Rows times key-value heads."""
        return sum(len(bank.lanes) for bank in self.banks)

    @property
    def nbytes(self) -> int:
        """Bytes really held."""
        return sum(bank.nbytes for bank in self.banks) + (0 if self.queries is None else self.queries.nbytes)

    def kept(self) -> Int[Tensor, " lanes"]:
        """Entries of every lane."""
        counts = torch.zeros(self.lanes, dtype=torch.long)
        for bank in self.banks:
            counts[bank.lanes.cpu()] = bank.length
        return counts

    def append(
        self,
        keys: Float[Tensor, "lanes new head_dim"],
        values: Float[Tensor, "lanes new value_dim"],
        place: Int[Tensor, "lanes new 2"] | None = None,
    ) -> None:
        """What has just come, behind everything else; `place` only where rotary positions have several axes."""
        lanes, new = keys.shape[:2]
        if not self.banks:
            whole = torch.arange(lanes, device=keys.device)
            nothing = Buffer(torch.zeros(lanes, 0, dtype=torch.int32, device=keys.device))
            stores: list[Store] = [Exact(Buffer(keys[:, :0]), Buffer(values[:, :0]))]
            placed = None if place is None else Buffer(place[:, :0])
            self.banks = [Bank(lanes=whole, stores=stores, when=nothing, place=placed)]
        came = torch.arange(self.seen, self.seen + new, dtype=torch.int32, device=keys.device)
        if place is None and self.apart is not None:
            place = (came - self.apart.lag)[None, :, None].expand(lanes, -1, 2)
        for bank in self.banks:
            own, where = (keys, values), place
            if len(self.banks) > 1:
                own = keys.index_select(0, bank.lanes), values.index_select(0, bank.lanes)
                where = None if place is None else place.index_select(0, bank.lanes)
            bank.append(*own, came.expand(len(bank.lanes), -1), where)
        self.seen += new

    def drop(self, keep: Sequence[Bool[Tensor, "_ _"]], *, room: int = 0) -> None:
        """Free every entry whose mask (one per bank) is False; lanes that keep different numbers part ways."""
        banks = []
        for bank, mask in zip(self.banks, keep, strict=True):
            if bool(mask.all()):
                banks.append(bank.cut(0, 0, room=room))
                continue
            whole = tuple(store.length for store in bank.stores)
            counts = torch.stack([part.sum(1) for part in mask.split(whole, dim=1)], dim=1)
            for pattern in sorted(set(map(tuple, counts.tolist()))):
                chosen = (counts == counts.new_tensor(pattern)).all(1).nonzero()[:, 0]
                part = bank if len(chosen) == len(mask) else bank.take(chosen)
                if pattern == whole:  # lanes that lose nothing stay as they are, whatever others of their bank lose
                    banks.append(part.cut(0, 0, room=room))
                    continue
                kept = mask[chosen].nonzero()[:, 1].view(len(chosen), sum(pattern))
                banks.append(part.select(kept, room=room))
        self.banks = banks

    def cut(self, start: int, last: int, *, room: int = 0) -> None:
        """Free what lies between the first `start` entries and the `last` ones of every lane."""
        banks = []
        for bank in self.banks:
            first = min(start, bank.length)
            banks.append(bank.cut(first, max(first, bank.length - last), room=room))
        self.banks = banks

    def settle(self) -> None:
        """What is brought back has its place between sinks and window, whoever has acted."""
        for bank in self.banks:
            if bank.parked is not None:
                bank.parked.settle(self, bank)

    def turned(
        self, keys: Float[Tensor, "lanes entries head_dim"], by: Int[Tensor, "lanes entries"]
    ) -> Float[Tensor, "lanes entries head_dim"]:
        """Keys rotated onwards, or back; as they are in a model without rotary positions."""
        return keys if self.rotate is None else self.rotate(keys, by.to(torch.float64)).to(keys.dtype)

    def rows(self, chosen: Int[Tensor, " rows"]) -> "Past":
        """The past of these rows, which may repeat: for beams, and for rows that part ways."""
        lanes = (chosen[:, None] * self.heads + torch.arange(self.heads, device=chosen.device)).flatten()
        banks = []
        for bank in self.banks:
            place = torch.full((self.lanes,), -1, device=chosen.device).scatter(
                0, bank.lanes, torch.arange(len(bank.lanes), device=chosen.device)
            )[lanes]
            here = (place >= 0).nonzero()[:, 0]
            if len(here):
                banks.append(replace(bank.take(place[here]), lanes=here))
        return replace(self, banks=banks, queries=None if self.queries is None else self.queries.take(lanes))
