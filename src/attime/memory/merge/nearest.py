r"""Entries that leave the budget are averaged into the most similar ones that stay, which then stand for as many tokens.

    j(i) = argmax_j cos(k_i, k_j),  folded if cos >= least:   m_j' = sum_i m_i,   k_j' = sum_i m_i k_i / m_j',  v_j' likewise
    logit_j' = q . k_j' + log m_j'

Source:  the scheme of KVMerger (arXiv 2407.08454, sec. 4), D2O (arXiv 2406.13035, sec. 3.3) and, for tokens of images, ToMe
         (arXiv 2210.09461, sec. 3).
Names:   `least` is D2O's threshold, `reach` says how far apart in the past KVMerger's neighbours may lie.
Cost:    at a tick, products of all keys with all keys that stay.
Differs: keys are compared and averaged without their rotation and stand where the one that stays stood; weights are the
         masses alone (KVMerger: a Gaussian of the distance), and the log-mass makes up for what the average has lost.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional as F

from attime.errors import AttimeError
from attime.memory.buffer import Buffer
from attime.memory.evict.contract import Action
from attime.memory.past import Bank, Past
from attime.memory.store import Exact

__all__ = ["Nearest"]


@final
@dataclass(frozen=True, kw_only=True)
class Nearest(Action):
    """Folds what is dropped into its nearest neighbours: `Evict(score=..., action=Nearest())` (see the module docstring)."""

    least: float = 0.6
    """Cosine of the keys under which an entry is gone after all."""
    reach: int | None = None
    """Entries between the two at most; None: any."""

    def __post_init__(self) -> None:
        if not -1 <= self.least <= 1 or (self.reach is not None and self.reach < 1):
            raise AttimeError(
                f"Nearest needs least between -1 and 1 and reach >= 1 or None; got least={self.least}, reach={self.reach}."
            )

    def leave(self, past: Past, keep: Sequence[Bool[Tensor, "_ _"]], *, sinks: int, room: int) -> None:
        for bank, kept in zip(past.banks, keep, strict=True):
            if not bool(kept.all()):
                self._fold(past, bank, kept, sinks)
        past.drop(keep, room=room)

    def _fold(self, past: Past, bank: Bank, kept: Bool[Tensor, "lanes entries"], sinks: int) -> None:
        bank.keep_in(lambda stores: stores)
        where = bank.positions()
        keys, values = past.turned(bank.keys(), -where), bank.values()
        wide = torch.promote_types(keys.dtype, torch.float32)
        target = self._targets(bank, F.normalize(keys.to(wide), dim=-1), kept, sinks)
        if bank.log_mass is None:
            bank.log_mass = Buffer(torch.zeros(kept.shape, device=kept.device))
        mass = bank.log_mass.now.to(wide).exp()
        total = torch.zeros_like(mass).scatter_add(1, target, mass)
        grown = torch.zeros_like(target).scatter_add(1, target, torch.ones_like(target)) > 1
        made = []
        for each in (keys, values):
            along = target[..., None].expand_as(each)
            summed = torch.zeros_like(each, dtype=wide).scatter_add(1, along, each.to(wide) * mass[..., None])
            made.append((summed / total.clamp(min=1e-30)[..., None]).to(each.dtype))
        made[0] = past.turned(made[0], where)
        start = 0
        for store in bank.stores:
            inside = slice(start, start := start + store.length)
            if isinstance(store, Exact):
                old = (store.keys(), store.values())
                pairs = zip(old, made, strict=True)
                store.change(*(torch.where(grown[:, inside, None], new[:, inside], was) for was, new in pairs))
        bank.log_mass.now.copy_(torch.where(grown, total.log(), bank.log_mass.now))
        if bank.received is not None:
            received = bank.received.now
            received.copy_(torch.zeros_like(received).scatter_add(1, target, received.clone()))

    def _targets(
        self, bank: Bank, keys: Tensor, kept: Bool[Tensor, "lanes entries"], sinks: int
    ) -> Int[Tensor, "lanes entries"]:
        """Into which entry each goes: itself, unless it leaves and something near it stays in an exact store."""
        slot = torch.arange(bank.length, device=kept.device)
        writable = torch.cat([torch.full((s.length,), isinstance(s, Exact), device=kept.device) for s in bank.stores])
        open_to = kept & writable & (slot >= sinks)
        alike = (keys @ keys.mT).masked_fill(~open_to[:, None], -torch.inf)
        if self.reach is not None:
            alike = alike.masked_fill((slot[:, None] - slot).abs() > self.reach, -torch.inf)
        best, nearest = alike.max(dim=2)
        return torch.where(~kept & (best >= self.least), nearest, slot)

    @classmethod
    def examples(cls) -> Sequence["Nearest"]:
        return [cls(), cls(least=-1.0, reach=4)]
