"""A transformers cache whose layers hold a past under a policy; what it returns carries the layer to the attention function."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from attime.errors import AttimeError
from attime.memory.contract import Chain
from attime.memory.past import Past, Rotate
from attime.memory.reader import Scoring, read

__all__ = ["MemoryCache", "MemoryLayer"]


class MemoryLayer(CacheLayerMixin):
    """The past of one layer: one `Past` for all rows that share their time, so one each for rows padded differently."""

    is_sliding, is_croppable, is_compileable = False, False, False

    def __init__(self, policy: Chain, *, heads: int, layer: int, layers: int, rotate: Rotate | None) -> None:
        super().__init__()
        self.policy, self.rotate = policy, rotate
        self.heads, self.layer, self.layers = heads, layer, layers
        self.columns = 0
        self.pasts: list[tuple[Tensor, Past]] = []
        """Rows of the batch and what is kept of them."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """The new keys and values alone; `attend` takes them in."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        key_states.attime_layer = self  # type: ignore[attr-defined]
        return key_states, value_states

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scoring: Scoring) -> Tensor:
        """Outputs (batch heads time value_dim); `mask` (batch, columns so far) is 0 at padding, where outputs are 0."""
        time = q.shape[2]
        valid = None if mask is None else mask[:, -time:].bool()
        self.columns += time
        if not self.pasts:
            rows = torch.arange(len(q), device=q.device)
            self.pasts = [(rows, Past(heads=self.heads, layer=self.layer, layers=self.layers, rotate=self.rotate))]
        if valid is None or bool(valid.all()):
            if len(self.pasts) == 1:
                return read(self.pasts[0][1], self.policy, q, k, v, scoring=scoring)
            out = q.new_empty(*q.shape[:3], v.shape[-1])
            for rows, past in self.pasts:
                out[rows] = read(past, self.policy, q[rows], k[rows], v[rows], scoring=scoring)
            return out
        self._part_ways(valid)
        out = q.new_zeros(*q.shape[:3], v.shape[-1])
        for rows, past in self.pasts:
            columns = valid[rows[0]].nonzero()[:, 0]
            if len(columns):
                place = (rows[:, None], slice(None), columns[None])
                own = (each.transpose(1, 2)[rows[:, None], columns[None]].transpose(1, 2) for each in (q, k, v))
                made = read(past, self.policy, *own, scoring=scoring)
                out[place[0], :, place[2]] = made.transpose(1, 2)
        return out

    def _part_ways(self, valid: Tensor) -> None:
        """Rows of one past whose padding differs get pasts of their own."""
        parted = []
        for rows, past in self.pasts:
            patterns = valid[rows].unique(dim=0)
            for pattern in patterns:
                here = (valid[rows] == pattern).all(1).nonzero()[:, 0]
                parted.append((rows[here], past if len(patterns) == 1 else past.rows(here)))
        self.pasts = parted

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

    def __init__(self, layers: Sequence[MemoryLayer]) -> None:
        super().__init__(layers=list(layers))

    @property
    def nbytes(self) -> int:
        """Bytes really held by all layers."""
        return sum(past.nbytes for layer in self.layers for _, past in layer.pasts)  # type: ignore[attr-defined]
