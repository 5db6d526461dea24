"""One call of attention, and how the tokens of a clip lie in it: what controls and measures look at."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attime.site import Site

__all__ = ["Call", "Heads", "Layout", "Maps"]

Heads = Float[Tensor, "batch heads time head_dim"]
Maps = Float[Tensor, "batch heads query key"]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Which tokens of a call are parts of a clip: `frames` times `places` tokens from `start` on, frame by frame."""

    frames: int
    places: int
    """Tokens of a frame."""
    start: int = 0
    """Tokens (words) before the first frame."""
    rows: int = field(default=1, compare=False)
    """Rows of the batch that belong to one clip: its frames where a call sees one frame, its places where it sees one place."""
    wide: int | None = field(default=None, compare=False)
    """Tokens of a line of a frame, where the call sees whole frames; rows of a line, where it sees one place."""

    @property
    def stop(self) -> int:
        """The token after the last frame."""
        return self.start + self.frames * self.places


@dataclass
class Call:
    """One call of attention at one site: what a control or a measure may look at."""

    site: Site
    step: int
    """Forward passes of the model, or changes of its time step, since the block was entered or another run began in it."""
    q: Heads
    k: Heads
    """As attention sees them, rotated; key-value heads are repeated for their query heads."""
    v: Heads
    scale: float
    mask: Tensor | None = None
    """As the model gave it: added to the scores, or True where a key is seen; broadcasts to (batch heads query key)."""
    causal: bool = False
    """Besides, no query sees a key that comes after it, counted from the first of both."""
    layout: Layout | None = None
    """None where tokens are not parts of a clip."""
    visual: Bool[Tensor, "batch key"] | None = None
    """Which keys are tokens of pictures or clips, in a vision-language model."""
    hidden: Tensor | None = None
    """(batch, time, dim): what the attention module was given."""
    stream: Tensor | None = None
    """(batch, time, dim): what the block around the attention module was given, before any norm."""
    rotary: tuple[Tensor, Tensor] | None = None
    """Cosines and sines (batch or 1, time, at most head_dim), halves alike, by which the queries and their keys were turned."""
    notes: dict[str, Any] = field(default_factory=dict)
    """Whatever a control writes down for its later calls in the same block."""

    @cached_property
    def scores(self) -> Maps:
        """Logits before the softmax, in float32 at least."""
        q, k = (each.to(torch.promote_types(each.dtype, torch.float32)) for each in (self.q, self.k))
        scores = q @ k.transpose(-1, -2) * self.scale
        return scores if self.added is None else scores + self.added

    @cached_property
    def added(self) -> Float[Tensor, "*batch query key"] | None:
        """What is added to the scores, 0 or -inf as a rule, causality included; None where everything is seen."""
        mask, device = self.mask, self.q.device
        if mask is not None and mask.dtype == torch.bool:
            mask = torch.zeros(mask.shape, dtype=self.q.dtype, device=device).masked_fill(~mask, -torch.inf)
        if self.causal:
            later = torch.ones(self.q.shape[2], self.k.shape[2], dtype=torch.bool, device=device).triu(1)
            never = torch.zeros(later.shape, dtype=self.q.dtype, device=device).masked_fill(later, -torch.inf)
            mask = never if mask is None else mask + never
        return mask

    @cached_property
    def seen(self) -> Bool[Tensor, "*batch query key"]:
        """Which keys the model lets which queries see, padding included; broadcasts to (batch heads query key)."""
        if self.added is None:
            return torch.ones(self.q.shape[2], self.k.shape[2], dtype=torch.bool, device=self.q.device)
        least = torch.finfo(self.added.dtype).min / 2
        return (self.added > least).expand(*self.added.shape[:-2], self.q.shape[2], self.k.shape[2])

    @cached_property
    def maps(self) -> Maps:
        """Softmax of the scores: rows sum to one, or are 0 where nothing is seen, as at padding."""
        nothing = self.scores.amax(-1, keepdim=True) == -torch.inf
        if not nothing.any():
            return self.scores.softmax(-1)
        return self.scores.masked_fill(nothing, 0.0).softmax(-1).masked_fill(nothing, 0.0)
