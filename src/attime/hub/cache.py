"""A transformers cache whose layers hold a past under a policy: what a conversation of several turns keeps."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from attime.errors import AttimeError
from attime.hub.layer import MemoryLayer
from attime.hub.rotary import Clock
from attime.memory.chained import Chain
from attime.memory.coded import Coder
from attime.memory.joined import join
from attime.memory.ledger import Ledger, ledger
from attime.memory.past import Past
from attime.memory.rotary import Rotary
from attime.memory.saved import load_pasts, save_pasts

__all__ = ["MemoryCache"]


class MemoryCache(Cache):
    """What `attach(...).cache()` makes: pass it as `past_key_values`, turn after turn."""

    def __init__(self, layers: Sequence[MemoryLayer], *, model: str) -> None:
        super().__init__(layers=list(layers))
        self.memory, self.model = tuple(layers), model
        self.lag: Tensor | None = None
        """(rows, 1): by how much rotary positions lag behind the count of tokens, in models whose pictures make it so."""
        self.begun: int | None = None
        """Tokens that had come before the forward that is under way, or has not gone to its end; None as a rule."""

    @classmethod
    def empty(cls, policy: Chain, rotate: Sequence[Rotary | None], clock: Clock, *, model: str) -> "MemoryCache":
        """Nothing remembered yet; `rotate` is how each layer turns its keys."""
        layers = [
            MemoryLayer(policy, layer=layer, layers=len(rotate), rotate=own, clock=clock)
            for layer, own in enumerate(rotate)
        ]
        return cls(layers, model=model)

    @property
    def pasts(self) -> list[tuple[Tensor, Past]]:
        """Rows of the batch and what is kept of them, layer after layer."""
        return [each for layer in self.memory for each in layer.pasts]

    @property
    def nbytes(self) -> int:
        """Bytes really held by all layers."""
        return sum(past.nbytes for _, past in self.pasts)

    def ledger(self) -> Ledger:
        """Tokens seen and kept, and bytes, of every layer and head."""
        return ledger([(rows.tolist(), past) for rows, past in self.pasts])

    def copy(self) -> "MemoryCache":
        """A cache that goes on from here while this one stays: to ask a question and come back."""
        made = MemoryCache([layer.copy() for layer in self.memory], model=self.model)
        made.lag, made.begun = self.lag, self.begun
        return made

    @property
    def rows(self) -> int | None:
        """Rows of the batch; None before the first tokens."""
        return sum(len(rows) for rows, _ in self.memory[0].pasts) or None

    def reset(self) -> None:
        super().reset()
        self.lag = self.begun = None

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        self.lag = None if self.lag is None else self.lag[indices]

    def batch_repeat_interleave(self, repeats: int) -> None:
        super().batch_repeat_interleave(repeats)
        self.lag = None if self.lag is None else self.lag.repeat_interleave(repeats, dim=0)

    def join(self, contexts: Sequence["MemoryCache"], *, temperature: float = 0.9, scale: float = 0.9) -> "MemoryCache":
        """A cache of all that is here, and of contexts that each went on from a copy() of it: side by side, in no order.

        The next tokens stand behind the longest context, and see all; see `memory.joined` for temperature and scale.
        """
        made, ends = self.copy(), [cache.memory[0].columns for cache in contexts]
        for number, layer in enumerate(made.memory):
            own = [cache.memory[number] for cache in contexts]
            pasts = [[past for _, past in each.pasts] for each in (layer, *own)]
            if any([r.tolist() for r, _ in each.pasts] != [r.tolist() for r, _ in layer.pasts] for each in own):
                raise AttimeError("join needs contexts of the same rows as here, read after copies of this cache.")
            joined = [
                join(first, rest, temperature=temperature, scale=scale) for first, *rest in zip(*pasts, strict=True)
            ]
            for each in layer.policy.policies:
                if each.follows and each.evidence().rotary:  # closes gaps, also those that it had closed before
                    for past in joined:
                        each.act(past)
            layer.pasts = [(rows, past) for (rows, _), past in zip(layer.pasts, joined, strict=True)]
            layer.columns = max(ends)
        lags = [end + cache.lag for end, cache in zip(ends, contexts, strict=True) if cache.lag is not None]
        made.lag = torch.stack(lags).amax(0) - max(ends) if lags else None
        return made

    def ask(self) -> "MemoryCache":
        """A copy for a question: what is fed to it first decides, as a whole, which parked blocks it sees from then on.

        With `Retrieve` in its policy; what is parked is shared and not copied, so a stream read once is asked many times.
        """
        made = self.copy()
        for bank in (bank for _, past in made.pasts for bank in past.banks):
            if bank.parked is not None:
                bank.parked.asked, bank.parked.pinned = True, None
        return made

    def belongs(self, clock: Clock, rotate: Sequence[Rotary | None]) -> None:
        """From now on it goes on with a model to which its memory was attached anew."""
        for layer, turn in zip(self.memory, rotate, strict=True):
            layer.clock, layer.rotate = clock, turn
            for _, past in layer.pasts:
                past.rotate = turn

    def check(self) -> None:
        """Raise, before anything more comes in, why a policy could not act; nothing is lost, and one may go on.

        Or that the last forward was cut short, when layers have taken in what others have not: one cannot go on from that.
        """
        if self.begun is not None and any(each.awaited or each.columns != self.begun for each in self.memory):
            raise AttimeError(
                "the last forward over this memory did not come to its end, and some layers have taken in what others have not: "
                "go on from a copy() made before it, or with an empty cache()."
            )
        pasts = [past for _, past in self.pasts]
        errors = [past.halted for past in pasts if past.halted is not None]
        for past in pasts:
            past.halted = None
        if errors:
            raise errors[0]

    def save(self, path: str | Path, *, coder: Coder | None = None) -> None:
        """Write all of it to one file, for `Attached.load`; with a coder in fewer bits, as coarse as its level is."""
        pasts = self.pasts
        extra = {"columns": self.memory[0].columns, "rows": [rows.tolist() for rows, _ in pasts]}
        extra["lag"] = None if self.lag is None else self.lag.tolist()
        told = {"model": self.model, "policy": repr(self.memory[0].policy), "extra": extra}
        save_pasts(path, [past for _, past in pasts], coder=coder, **told)

    def restore(self, path: str | Path, *, device: torch.device | None = None) -> "MemoryCache":
        """Take in what `save` wrote, in place of what is here, on this device; AttimeError, and nothing is taken in."""
        policy = repr(self.memory[0].policy)
        pasts, extra = load_pasts(path, model=self.model, policy=policy, device=device)
        try:
            rows = [torch.tensor(each, dtype=torch.long, device=device) for each in extra["rows"]]
            lag = None if extra["lag"] is None else torch.tensor(extra["lag"], device=device)
            columns, whole = int(extra["columns"]), list(zip(rows, pasts, strict=True))
        except (LookupError, TypeError, RuntimeError, ValueError) as error:
            raise AttimeError(f"{path} is damaged: {error!r}; save the memory again.") from None
        found = [[each for each in whole if each[1].layer == layer.layer] for layer in self.memory]
        if whole and (not all(found) or sum(map(len, found)) != len(whole)):
            raise AttimeError(f"{path} is damaged: it has not the model's {len(self.memory)} layers; save it again.")
        self.lag, self.begun = lag, None
        for layer, own in zip(self.memory, found, strict=True):
            layer.columns, layer.pasts, layer.awaited = columns, own, False
            for _, past in layer.pasts:
                past.rotate = layer.rotate
        return self
