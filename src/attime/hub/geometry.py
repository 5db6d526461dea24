"""What a model is being given while it runs: which step this is, which tokens are of which frame, which are of pictures."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attime.control.call import Layout
from attime.hub.located import FLAT
from attime.site import Site

__all__ = ["Geometry"]

TEXT_FIRST = ("CogVideoX", "Flux")
"""Joint models that put words before what they paint; the others put them behind."""
FRAMES_SECOND = ("CogVideoX",)
"""Models that take clips as (batch, frames, channels, height, width); the others take channels second."""
VISUAL = ("image_token_id", "video_token_id", "image_token_index", "video_token_index")


class Geometry:
    """Follows the forward passes of one model."""

    def __init__(self, root: nn.Module) -> None:
        self.root = root
        self.step = -1
        self.clip: tuple[int, int] | None = None
        """Frames, and tokens of a frame."""
        self.clips: int | None = None
        """Clips of a batch."""
        self.wide = 1
        """Tokens of a line of a frame."""
        self.pictures: Tensor | None = None
        """(batch, tokens so far): which are of pictures."""
        self._when: float | None = None
        self._began: float | None = None
        self._hook: Any = None
        self._names = inspect.signature(root.forward)

    def open(self) -> None:
        """Begin to follow."""
        self._hook = self.root.register_forward_pre_hook(self._follow, with_kwargs=True)

    def close(self) -> None:
        """Stop."""
        self._hook.remove()

    def layout(self, site: Site, batch: int, tokens: int) -> Layout | None:
        """Which of so many rows and queries of a call are of which clip and frame."""
        rows = 1 if self.clips is None else max(1, batch // self.clips)
        if site.kind == "temporal":
            return Layout(frames=tokens, places=1, rows=rows, wide=self._line(rows))
        if site.kind == "spatial" or (site.kind == "cross" and type(self.root).__name__.startswith(FLAT)):
            return Layout(frames=1, places=tokens, rows=rows, wide=self._line(tokens))
        if self.clip is None:
            return None
        frames, places = self.clip
        spare = tokens - frames * places
        if spare < 0:
            return None
        first = type(self.root).__name__.startswith(TEXT_FIRST)
        return Layout(frames=frames, places=places, start=spare if first else 0, rows=rows, wide=self._line(places))

    def visual(self, site: Site, tokens: int) -> Tensor | None:
        """Which of so many keys are of pictures; keys of a language model's past are all that have come."""
        if self.pictures is None or site.part == "vision" or self.pictures.shape[1] > tokens:
            return None
        return F.pad(self.pictures, (0, tokens - self.pictures.shape[1]))  # a static cache has room for more

    def _follow(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = self._names.bind_partial(*args, **kwargs).arguments
        given |= given.pop("kwargs", {})
        when = given.get("timestep")
        now = None if when is None else float(torch.as_tensor(when).flatten()[0])
        past = given.get("past_key_values")
        empty = past is not None and hasattr(past, "get_seq_length") and not past.get_seq_length()
        if empty or self._turns_back(now):
            self.step, self._began = -1, now
        if empty or now is None or now != self._when:
            self.step += 1
        self._began, self._when = now if self._began is None else self._began, now
        self._clips(given.get("hidden_states", given.get("sample")), given.get("img_ids"))
        self._words(given)

    def _turns_back(self, now: float | None) -> bool:
        """Whether time goes the other way for more than half of what it has gone: another run has begun."""
        if now is None or self._when is None or self._began is None:
            return False
        gone, step = self._when - self._began, now - self._when
        return gone * step < 0 and abs(step) > abs(gone) / 2

    def _clips(self, latents: Any, places: Any) -> None:
        if isinstance(latents, Tensor) and latents.ndim == 3 and isinstance(places, Tensor):  # one picture, as tokens
            self.clips, self.clip, self.wide = len(latents), (1, latents.shape[1]), int(places[..., 2].max()) + 1
        if not isinstance(latents, Tensor) or latents.ndim not in (4, 5):
            return
        config: Any = self.root.config
        patch = getattr(config, "patch_size", 1) or 1
        deep, high, wide = (
            patch if isinstance(patch, (tuple, list)) else (getattr(config, "patch_size_t", 1) or 1, patch, patch)
        )
        second = type(self.root).__name__.startswith(FRAMES_SECOND)
        frames = 1 if latents.ndim == 4 else latents.shape[1 if second else 2]
        self.clips, self.wide = len(latents), latents.shape[-1] // wide
        self.clip = (-(-frames // deep), (latents.shape[-2] // high) * self.wide)

    def _line(self, places: int) -> int | None:
        """Tokens of a line of a frame of so many tokens, at any level of a model that halves its frames."""
        if self.clip is None:
            return None
        high, wide = self.clip[1] // self.wide, self.wide
        while high * wide > places and high * wide > 1:
            high, wide = -(-high // 2), -(-wide // 2)
        return wide if high * wide == places else None

    def _words(self, given: dict[str, Any]) -> None:
        ids, config = given.get("input_ids"), getattr(self.root, "config", None)
        marks = {mark for name in VISUAL if isinstance(mark := getattr(config, name, None), int)}
        if not isinstance(ids, Tensor) or not marks:
            return
        new = torch.isin(ids, torch.tensor(sorted(marks), device=ids.device))
        past = given.get("past_key_values")
        before = 0 if past is None else int(past.get_seq_length())
        known = self.pictures
        goes_on = known is not None and before and known.shape == (len(ids), before)
        self.pictures = torch.cat([known, new], dim=1) if goes_on and known is not None else new
