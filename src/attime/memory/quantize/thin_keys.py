r"""Older keys lose the channels that the last queries hardly read; what is left of them is kept densely.

    score_j = ||Q[:, j]||^2 ||K[:, j]||^2 = ||Q[:, j] K[:, j]^T||_F^2        kept: the floor((1 - share) d) highest

Source:  ThinK, arXiv 2407.21018, sec. 3 (query-driven pruning: the greedy solution of min ||Q K^T - Q S K^T||_F).
Names:   `share` is their lambda; Q are the last `observed` queries, squared norms averaged over a key head's query heads.
Cost:    a thin key is read with (1 - share) d products; a tick rewrites the thin entries once.
Differs: keys grow thin for life, at every tick all but the `recent` latest, and not once after the prompt. A lane's
         channels are chosen once, when first as many keys as queries are old. Values stay whole (their pruning is optional).
         `by="keys"` leaves the queries out of the score, as the norms do that the paper compares itself with.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attime.errors import AttimeError
from attime.memory.contract import Policy, Traits, check_evidence
from attime.memory.past import Bank, Past
from attime.memory.store import Entries, Queries, Store, Weights

__all__ = ["Thin", "ThinKeys", "channel_scores"]


def channel_scores(
    queries: Float[Tensor, "lanes observed groups head_dim"], keys: Float[Tensor, "lanes entries head_dim"]
) -> Float[Tensor, "lanes head_dim"]:
    """What each channel alone contributes to q . k, squared and summed over queries and keys; mean over the query heads."""
    wide = torch.promote_types(keys.dtype, torch.float32)
    return queries.to(wide).square().sum(1).mean(1) * keys.to(wide).square().sum(1)


@final
class Thin(Store):
    """Keys of which only some channels are kept, a set for each lane, and whole values."""

    def __init__(
        self,
        keys: Float[Tensor, "lanes entries kept"],
        values: Float[Tensor, "lanes entries value_dim"],
        channels: Int[Tensor, "lanes kept"],
        head_dim: int,
    ) -> None:
        self._keys, self._values, self.channels, self.head_dim = keys, values, channels, head_dim

    @classmethod
    def of(cls, keys: Entries, values: Entries, channels: Int[Tensor, "lanes kept"]) -> "Thin":
        """Whole keys made thin."""
        return cls(keys.take_along_dim(channels[:, None], dim=2), values.clone(), channels, keys.shape[-1])

    @property
    def length(self) -> int:
        return self._keys.shape[1]

    @property
    def nbytes(self) -> int:
        return self._keys.nbytes + self._values.nbytes + self.channels.nbytes

    def keys(self) -> Entries:
        whole = self._keys.new_zeros(*self._keys.shape[:2], self.head_dim)
        return whole.scatter(2, self.channels[:, None].expand_as(self._keys), self._keys)

    def values(self) -> Entries:
        return self._values

    def logits(self, q: Queries) -> Weights:
        return q.take_along_dim(self.channels[:, None], dim=2) @ self._keys.mT

    def select(self, kept: Int[Tensor, "lanes kept"], *, room: int = 0) -> "Thin":
        keys, values = (each.take_along_dim(kept[..., None], 1) for each in (self._keys, self._values))
        return Thin(keys, values, self.channels, self.head_dim)

    def take(self, chosen: Int[Tensor, " chosen"]) -> "Thin":
        return Thin(self._keys[chosen], self._values[chosen], self.channels[chosen], self.head_dim)

    def with_more(self, keys: Entries, values: Entries) -> "Thin":
        """A store with these whole keys, made thin, behind its own."""
        new = Thin.of(keys, values, self.channels)
        pairs = ((self._keys, new._keys), (self._values, new._values))
        whole, values = (torch.cat(pair, dim=1) for pair in pairs)
        return Thin(whole, values, self.channels, self.head_dim)

    def tensors(self) -> dict[str, Tensor]:
        width = torch.tensor(self.head_dim)
        return {"keys": self._keys, "values": self._values, "channels": self.channels, "head_dim": width}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor]) -> "Thin":
        return cls(tensors["keys"], tensors["values"], tensors["channels"], int(tensors["head_dim"]))


@final
@dataclass(frozen=True, kw_only=True)
class ThinKeys(Policy):
    """Prunes the channels of older keys (see the module docstring)."""

    share: float = 0.4
    """Channels that are removed, of all."""
    recent: int = 32
    """The latest entries, whose keys stay whole."""
    observed: int = 32
    """The last queries, which the choice is made for."""
    by: Literal["queries", "keys"] = "queries"
    """What tells a channel's worth: queries and keys, or the size of the keys alone."""
    every: int = 128

    traits: ClassVar[Traits] = Traits()

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1 or self.recent < 0 or self.observed < 1 or self.every < 1:
            raise AttimeError(
                f"ThinKeys needs 0 <= share < 1, recent >= 0, observed >= 1 and every >= 1; got share={self.share}, "
                f"recent={self.recent}, observed={self.observed}, every={self.every}."
            )

    def evidence(self) -> Traits:
        return Traits(queries=self.observed if self.by == "queries" else 0)

    def act(self, past: Past) -> None:
        check_evidence(self, self.evidence(), past)
        for bank in past.banks:
            old = bank.exact.length - self.recent
            before = bank.stores[-2] if len(bank.stores) > 1 else None
            known = before if isinstance(before, Thin) else None
            if old > 0 and (known is not None or old >= self.observed):
                self._thin(past, bank, old, known)

    def _thin(self, past: Past, bank: Bank, old: int, known: Thin | None) -> None:
        """The first `old` entries of the exact store go to the thin one before it, which may have to be made."""

        def moved(stores: list[Store]) -> list[Store]:
            keys, values = (each[:, :old] for each in (bank.exact.keys(), bank.exact.values()))
            if known is None:
                scores = self._scores(past, bank, keys)
                count = max(1, math.floor((1 - self.share) * keys.shape[-1]))
                thin = Thin.of(keys, values, scores.topk(count, dim=1).indices.sort(dim=1).values)
            else:
                thin = known.with_more(keys, values)
            latest = torch.arange(old, bank.exact.length, device=keys.device).expand(len(keys), -1)
            return [*stores[: -1 if known is None else -2], thin, bank.exact.select(latest, room=self.every)]

        bank.keep_in(moved)

    def _scores(self, past: Past, bank: Bank, keys: Entries) -> Float[Tensor, "lanes head_dim"]:
        if self.by == "keys" or past.queries is None:
            return keys.to(torch.promote_types(keys.dtype, torch.float32)).square().sum(1)
        return channel_scores(past.queries.now[bank.lanes][:, -self.observed :], keys)

    @classmethod
    def examples(cls) -> Sequence["ThinKeys"]:
        return [
            cls(share=0.4, recent=5, observed=4, every=4),
            cls(share=0.5, recent=0, observed=7, every=1),
            cls(share=0.3, recent=6, observed=3, by="keys", every=4),
        ]
