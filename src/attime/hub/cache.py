"""A transformers cache whose layers hold a past under a policy; what it returns carries the layer to the attention function."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from attime.errors import AttimeError
from attime.hub.rotary import Clock
from attime.memory.coded import Coder
from attime.memory.contract import Chain
from attime.memory.joined import join
from attime.memory.ledger import Ledger, ledger
from attime.memory.past import Past, Rotate
from attime.memory.reader import Scoring, read
from attime.memory.saved import load_pasts, save_pasts

__all__ = ["MemoryCache", "MemoryLayer"]


class MemoryLayer(CacheLayerMixin):
    """The past of one layer: one `Past` for all rows that share their time, so one each for rows padded differently."""

    is_sliding, is_croppable, is_compileable = False, False, False

    def __init__(
        self, policy: Chain, *, heads: int, layer: int, layers: int, rotate: Rotate | None, clock: Clock
    ) -> None:
        super().__init__()
        self.policy, self.rotate, self.clock = policy, rotate, clock
        self.heads, self.layer, self.layers = heads, layer, layers
        self.columns = 0
        self.pasts: list[tuple[Tensor, Past]] = []
        """Rows of the batch and what is kept of them."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True

    @torch.compiler.disable
    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """The new keys and values alone; `attend` takes them in."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        key_states.attime_layer = self  # type: ignore[attr-defined]
        return key_states, value_states

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scoring: Scoring) -> Tensor:
        """Outputs (batch heads time value_dim); `mask` (batch, columns so far) is 0 at padding, where outputs are 0."""
        time, place = q.shape[2], self._places()
        place = None if place is None else place.expand(len(q), -1, -1)
        valid = None if mask is None else mask[:, -time:].bool()
        self.columns += time
        if not self.pasts:
            rows = torch.arange(len(q), device=q.device)
            self.pasts = [(rows, Past(heads=self.heads, layer=self.layer, layers=self.layers, rotate=self.rotate))]
        if valid is None or bool(valid.all()):
            if len(self.pasts) == 1:
                return read(self.pasts[0][1], self.policy, q, k, v, scoring=scoring, place=place)
            out = q.new_empty(*q.shape[:3], v.shape[-1])
            for rows, past in self.pasts:
                own_place = None if place is None else place[rows]
                out[rows] = read(past, self.policy, q[rows], k[rows], v[rows], scoring=scoring, place=own_place)
            return out
        self._part_ways(valid)
        out = q.new_zeros(*q.shape[:3], v.shape[-1])
        for rows, past in self.pasts:
            columns = valid[rows[0]].nonzero()[:, 0]
            if len(columns):
                row = rows[:, None]
                own = (each.transpose(1, 2)[row, columns].transpose(1, 2) for each in (q, k, v))
                own_place = None if place is None else place[row, columns]
                made = read(past, self.policy, *own, scoring=scoring, place=own_place)
                out[row, :, columns] = made.transpose(1, 2)
        return out

    def _places(self) -> Tensor | None:
        """Rotary positions of what comes, where they have several axes, or had when the past began."""
        known = any(bank.place is not None for _, past in self.pasts for bank in past.banks)
        return self.clock.place if self.clock.several or known else None

    def _part_ways(self, valid: Tensor) -> None:
        """Rows of one past whose padding differs get pasts of their own."""
        parted = []
        for rows, past in self.pasts:
            patterns = valid[rows].unique(dim=0)
            for pattern in patterns:
                here = (valid[rows] == pattern).all(1).nonzero()[:, 0]
                parted.append((rows[here], past if len(patterns) == 1 else past.rows(here)))
        self.pasts = parted

    def copy(self) -> "MemoryLayer":
        """A layer that goes on from here by itself."""
        made = copy.copy(self)
        made.pasts = [(rows, copy.deepcopy(replace(past, rotate=None))) for rows, past in self.pasts]
        for _, past in made.pasts:
            past.rotate = self.rotate
        return made

    def get_seq_length(self) -> int:
        """Columns that have come, kept or not: what generate() counts by."""
        return self.columns

    def get_max_length(self) -> int:
        return -1

    get_max_cache_shape = get_max_length  # its name before 5.18

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.columns + query_length, 0

    def batch_select_indices(self, indices: Tensor) -> None:
        """Rows in a new order, which may repeat."""
        chosen = []
        for rows, past in self.pasts:
            place = torch.full((int(max(rows.max(), indices.max())) + 1,), -1, device=rows.device)
            place[rows] = torch.arange(len(rows), device=rows.device)
            found = place[indices.to(rows.device)]
            here = (found >= 0).nonzero()[:, 0]
            if len(here):
                chosen.append((here, past.rows(found[here])))
        self.pasts = chosen

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self.batch_select_indices(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        rows = sum(len(rows) for rows, _ in self.pasts)
        self.batch_select_indices(torch.arange(rows).repeat_interleave(repeats))

    def reset(self) -> None:
        self.pasts, self.columns, self.is_initialized = [], 0, False

    def crop(self, tokens_to_remove: int) -> None:
        if tokens_to_remove:
            raise AttimeError("a memory cannot be cropped: what its policy has dropped is gone; keep a copy() instead.")


class MemoryCache(Cache):
    """What `attach(...).cache()` makes: pass it as `past_key_values`, turn after turn."""

    def __init__(self, layers: Sequence[MemoryLayer], *, model: str) -> None:
        super().__init__(layers=list(layers))
        self.memory, self.model = tuple(layers), model
        self.lag: Tensor | None = None
        """(rows, 1): by how much rotary positions lag behind the count of tokens, in models whose pictures make it so."""

    @property
    def nbytes(self) -> int:
        """Bytes really held by all layers."""
        return sum(past.nbytes for layer in self.memory for _, past in layer.pasts)

    def ledger(self) -> Ledger:
        """Tokens seen and kept, and bytes, of every layer and head."""
        return ledger([(rows.tolist(), past) for layer in self.memory for rows, past in layer.pasts])

    def copy(self) -> "MemoryCache":
        """A cache that goes on from here while this one stays: to ask a question and come back."""
        made = MemoryCache([layer.copy() for layer in self.memory], model=self.model)
        made.lag = self.lag
        return made

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
        for bank in (bank for layer in made.memory for _, past in layer.pasts for bank in past.banks):
            if bank.parked is not None:
                bank.parked.asked, bank.parked.pinned = True, None
        return made

    def check(self) -> None:
        """Raise, before anything more comes in, why a policy could not act; nothing is lost, and one may go on."""
        pasts = [past for layer in self.memory for _, past in layer.pasts]
        errors = [past.halted for past in pasts if past.halted is not None]
        for past in pasts:
            past.halted = None
        if errors:
            raise errors[0]

    def save(self, path: str | Path, *, coder: Coder | None = None) -> None:
        """Write all of it to one file, for `Attached.load`; with a coder in fewer bits, as coarse as its level is."""
        pasts = [(rows, past) for layer in self.memory for rows, past in layer.pasts]
        extra = {"columns": self.memory[0].columns, "rows": [rows.tolist() for rows, _ in pasts]}
        extra["lag"] = None if self.lag is None else self.lag.tolist()
        told = {"model": self.model, "policy": repr(self.memory[0].policy), "extra": extra}
        save_pasts(path, [past for _, past in pasts], coder=coder, **told)

    def restore(self, path: str | Path) -> "MemoryCache":
        """Take in what `save` wrote, in place of what is here."""
        pasts, extra = load_pasts(path, model=self.model, policy=repr(self.memory[0].policy))
        self.lag = None if extra.get("lag") is None else torch.tensor(extra["lag"])
        for layer in self.memory:
            layer.columns = extra["columns"]
            own = [(rows, past) for rows, past in zip(extra["rows"], pasts, strict=True) if past.layer == layer.layer]
            layer.pasts = [(torch.tensor(rows), past) for rows, past in own]
            for _, past in layer.pasts:
                past.rotate = layer.rotate
        return self
