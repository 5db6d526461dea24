r"""What leaves the budget is mixed into a few slots by a learnt convolution over time, shared by the heads of a layer.

    W = (1 - n) W_top + n softmax_over_entries(Conv1d([K; V])),     K' = W K,   V' = W V
    W_top: one-hot rows, the slots' best entries in order of time;  heavy hitters, sinks and recent tokens stay as they are

Source:  LoCoCo, arXiv 2406.05317, sec. 3 (one convolution per layer, kernel 21; n is learnt and starts at 0.5).
Names:   `heavy` entries are their heavy hitters, `Mixing.share` is n; slots + heavy + sinks + recent their M.
Cost:    2 d slots 21 products per entry that leaves; entries that were mixed may be mixed again at the next tick.
Differs: keys are mixed without their rotation and stand where their slot's best entry stood (Contiguous re-places them as
         the paper does); the convolution is trained with the model frozen and without adapters.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from attime.errors import AttimeError
from attime.memory.buffer import Buffer
from attime.memory.contract import Policy, Traits, check_evidence
from attime.memory.past import Bank, Past
from attime.memory.store import Exact

__all__ = ["Convolution", "Mixing", "fit"]


@final
class Mixing(nn.Module):
    """The weights: a convolution and a share n for every layer."""

    def __init__(
        self, *, layers: int, head_dim: int, slots: int, value_dim: int | None = None, kernel: int = 21
    ) -> None:
        super().__init__()
        if min(layers, head_dim, slots) < 1 or kernel < 1 or kernel % 2 == 0:
            raise AttimeError(
                f"Mixing needs layers, head_dim and slots >= 1 and an odd kernel; got layers={layers}, "
                f"head_dim={head_dim}, slots={slots}, kernel={kernel}."
            )
        width = head_dim + (value_dim or head_dim)
        self.slots = slots
        self.convolutions = nn.ModuleList(nn.Conv1d(width, slots, kernel, padding=kernel // 2) for _ in range(layers))
        self.share = nn.Parameter(torch.full((layers,), 0.5))

    def forward(
        self,
        keys: Float[Tensor, "lanes entries head_dim"],
        values: Float[Tensor, "lanes entries value_dim"],
        best: Int[Tensor, "lanes slots"],
        layer: int,
    ) -> Float[Tensor, "lanes slots entries"]:
        """Weights of the entries in each slot, whose rows sum to one; `best` are the entries of W_top."""
        own = self.convolutions[layer]
        assert isinstance(own, nn.Conv1d)
        assert own.bias is not None
        x = torch.cat([keys, values], dim=2).mT
        x = x.to(torch.promote_types(x.dtype, own.weight.dtype))
        mixed = F.conv1d(x, own.weight.to(x.dtype), own.bias.to(x.dtype), padding=own.padding[0]).softmax(-1)  # pyright: ignore
        top = F.one_hot(best, keys.shape[1]).to(x.dtype)
        share = self.share[layer].to(x.dtype)
        return ((1 - share) * top + share * mixed).to(keys.dtype)

    def extra_repr(self) -> str:
        """A checksum: what other weights have merged is another memory."""
        return f"checksum={float(sum(each.detach().double().sum() for each in self.parameters())):.6g}"


@final
@dataclass(frozen=True, kw_only=True)
class Convolution(Policy):
    """Mixes what leaves into the slots of `mixing` (see the module docstring)."""

    mixing: Mixing
    sinks: int = 0
    heavy: int = 128
    recent: int = 128
    every: int = 256

    traits: ClassVar[Traits] = Traits(bounded=True, drops=True, maps=True)

    def __post_init__(self) -> None:
        if min(self.sinks, self.heavy, self.recent) < 0 or self.every < 1:
            raise AttimeError(
                f"Convolution needs sinks, heavy and recent >= 0 and every >= 1; got sinks={self.sinks}, "
                f"heavy={self.heavy}, recent={self.recent}, every={self.every}."
            )

    @property
    def budget(self) -> int:
        """The most entries that a lane holds."""
        return self._whole + self.mixing.slots + self.every

    @property
    def _whole(self) -> int:
        return self.sinks + self.heavy + self.recent

    def check(self, past: Past) -> None:
        if past.layers > len(self.mixing.convolutions):
            raise AttimeError(
                f"Convolution has weights for {len(self.mixing.convolutions)} layers, and the model has {past.layers}: "
                f"make a Mixing for as many."
            )

    def act(self, past: Past) -> None:
        check_evidence("Convolution", self.traits, past)
        self.check(past)
        small = self._whole + self.mixing.slots
        past.banks = [bank if bank.length <= small else self._merged(past, bank) for bank in past.banks]

    def _merged(self, past: Past, bank: Bank) -> Bank:
        """The bank with its best entries as they were, and the rest in slots."""
        bank.keep_in(_as_one)
        where, slot = bank.positions(), torch.arange(bank.length, device=bank.lanes.device)
        assert bank.received is not None
        received = bank.received.now.detach()
        safe = (slot < self.sinks) | (slot >= bank.length - self.recent)
        order = received.masked_fill(safe, torch.inf).argsort(dim=1, descending=True, stable=True)
        best = order[:, self._whole : self._whole + self.mixing.slots].sort(dim=1).values
        rest = order[:, self._whole :].sort(dim=1).values
        kept = order[:, : self._whole + self.mixing.slots].sort(dim=1).values

        keys, values = (each.take_along_dim(rest[..., None], 1) for each in (bank.keys(), bank.values()))
        keys = past.turned(keys, -where.gather(1, rest))
        weights = self.mixing(keys, values, torch.searchsorted(rest, best), past.layer)
        merged = past.turned(weights @ keys, where.gather(1, best)), weights @ values
        made, spot = bank.select(kept, room=self.every), torch.searchsorted(kept, best)
        for old, new in zip((made.exact.keys(), made.exact.values()), merged, strict=True):
            old.scatter_(1, spot[..., None].expand_as(new), new)
        assert made.received is not None
        share = (weights.detach() @ received.gather(1, rest)[..., None].to(weights.dtype))[..., 0]
        made.received.now.scatter_(1, spot, share.to(received.dtype))
        return made

    @classmethod
    def examples(cls) -> Sequence["Convolution"]:
        mixing = Mixing(layers=2, head_dim=8, slots=3, kernel=5)
        return [
            cls(mixing=mixing, sinks=2, heavy=3, recent=4, every=4),
            cls(mixing=Mixing(layers=2, head_dim=8, value_dim=8, slots=4), sinks=0, heavy=5, recent=6, every=1),
        ]


def fit(
    mixing: Mixing, loss_at: Callable[[int], Tensor], *, steps: int = 300, learning_rate: float = 1e-2
) -> list[float]:
    """Learn the weights by what a frozen model loses under them; `loss_at(step)` reads a text under the policy. The losses."""
    optimiser, losses = torch.optim.Adam(mixing.parameters(), lr=learning_rate), list[float]()
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, steps))
    for step in range(steps):
        optimiser.zero_grad()
        loss = loss_at(step)
        loss.backward()
        optimiser.step()
        fall.step()
        losses.append(loss.item())
    return losses


def _as_one(stores: list) -> list:
    """One exact store of all entries."""
    if len(stores) == 1:
        return stores
    keys, values = (torch.cat([getattr(store, name)() for store in stores], dim=1) for name in ("keys", "values"))
    return [Exact(Buffer(keys), Buffer(values))]
