"""The past of one layer of a model of transformers; the keys it returns carry it to the attention function."""

import copy
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin

from attime.errors import AttimeError
from attime.hub.rotary import Clock
from attime.memory.chained import Chain
from attime.memory.past import Past
from attime.memory.reader import Scoring, read
from attime.memory.rotary import Rotary

__all__ = ["MemoryLayer"]


class MemoryLayer(CacheLayerMixin):
    """The past of one layer: one `Past` for all rows that share their time, so one each for rows padded differently."""

    is_sliding, is_croppable, is_compileable = False, False, False

    def __init__(self, policy: Chain, *, layer: int, layers: int, rotate: Rotary | None, clock: Clock) -> None:
        super().__init__()
        self.policy, self.rotate, self.clock = policy, rotate, clock
        self.layer, self.layers = layer, layers
        self.columns = 0
        self.awaited = False
        """Keys have come, and their attention has not yet."""
        self.pasts: list[tuple[Tensor, Past]] = []
        """Rows of the batch and what is kept of them."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True

    @torch.compiler.disable
    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """The new keys and values alone; `attend` takes them in."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if not self.clock.live:
            raise AttimeError(
                "a memory's cache needs its model with the memory attached, and it has been detached: attach again, or start "
                "the conversation anew without this cache."
            )
        if self.awaited:
            raise AttimeError(
                f"a memory's cache needs every attention over its keys, and that of layer {self.layer} never came: give it to "
                f"no model but the one it was made for, and start again from an empty cache()."
            )
        self.awaited = True
        key_states.attime_layer = self  # type: ignore[attr-defined]
        return key_states, value_states

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scoring: Scoring) -> Tensor:
        """Outputs (batch heads time value_dim); `mask` (batch, columns so far) is 0 at padding, where outputs are 0."""
        if not self.awaited:
            raise AttimeError(
                f"a memory needs layers that each attend to their own past, and that of layer {self.layer} was attended to "
                f"twice in one forward, as where layers share keys: detach, and use the model as it is."
            )
        self.awaited = False
        time, place = q.shape[2], self._places()
        place = None if place is None else place.expand(len(q), -1, -1)
        valid = None if mask is None else mask[:, -time:].bool()
        self.columns += time
        if not self.pasts:
            rows = torch.arange(len(q), device=q.device)
            self.pasts = [(rows, Past(heads=k.shape[1], layer=self.layer, layers=self.layers, rotate=self.rotate))]
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
        made.pasts = [(rows, copy.deepcopy(past)) for rows, past in self.pasts]
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
        self.pasts, self.columns, self.is_initialized, self.awaited = [], 0, False, False

    def crop(self, tokens_to_remove: int) -> None:
        if tokens_to_remove:
            raise AttimeError(
                "a memory cannot be cropped: its policy has acted on what came; keep a copy() from before, or decode without drafts."
            )
