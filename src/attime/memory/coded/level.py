r"""Keys and values as small whole numbers: an anchor for each few tokens, finely, and differences from it, coarsely.

    a = x_{10 g}:   code_a = round(127 a / max|a|)                    x^ = code max|.| / (bins / 2 - 1)
    other tokens:   code   = round((bins/2 - 1) (x - a^) / max|x - a^|),   bins fewer in deeper layers

Source:  CacheGen, arXiv 2310.07240, sec. 5.1.1 (anchors and deltas) and 5.1.2 (bins by layer; vectorwise).
Names:   `share` of a step is the depth up to which its bins hold, as a part of all layers (theirs: 10, 20 and 32 of 32).
Cost:    a 16-bit scale per token and head.
Differs: differences are from the decoded anchor, so errors do not add up; the greatest number is a head's, not a layer's.
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attime.errors import AttimeError

__all__ = ["Codes", "Level"]

FINE = 256  # bins of an anchor
Steps = tuple[tuple[float, int], ...]


@final
@dataclass(frozen=True)
class Codes:
    """What a tensor (lanes, entries, dim) was rounded to."""

    anchors: Int[Tensor, "lanes groups dim"]
    """Codes of the anchors; none where every token stands for itself."""
    others: Int[Tensor, "lanes others dim"]
    """Codes of the differences from them, between -(bins / 2 - 1) and bins / 2 - 1."""
    anchor_scale: Float[Tensor, "lanes groups"]
    other_scale: Float[Tensor, "lanes others"]
    bins: int
    group: int

    def decode(self, like: Tensor) -> Float[Tensor, "lanes entries dim"]:
        """The numbers again, as coarse as they are, in the dtype of `like`."""
        wide = torch.promote_types(like.dtype, torch.float32)
        others = self.others.to(wide) * (self.other_scale.to(wide) / (self.bins // 2 - 1))[..., None]
        if not self.group:
            return others.to(like.dtype)
        anchors = self.anchors.to(wide) * (self.anchor_scale.to(wide) / (FINE // 2 - 1))[..., None]
        entries = others.shape[1] + anchors.shape[1]
        first = torch.arange(entries, device=others.device) % self.group == 0
        made = others.new_empty(len(others), entries, others.shape[2])
        made[:, first] = anchors
        made[:, ~first] = others + _near(anchors, self.group, entries)[:, ~first]
        return made.to(like.dtype)


@final
@dataclass(frozen=True, kw_only=True)
class Level:
    """How finely keys and values are rounded at each depth (see the module docstring)."""

    keys: Steps = ((10 / 32, 32), (20 / 32, 16), (1.0, 16))
    values: Steps = ((2 / 32, 32), (1.0, 16))
    group: int = 10
    """Tokens that share an anchor, which is the first of them; 0: no anchors, every token by itself."""

    def __post_init__(self) -> None:
        bins = [each for _, each in (*self.keys, *self.values)]
        ends = [steps[-1][0] if steps else 0 for steps in (self.keys, self.values)]
        if min(bins, default=0) < 4 or max(bins) > FINE or min(ends) < 1 or self.group < 0 or self.group == 1:
            raise AttimeError(
                f"Level needs steps (share of depth, bins) up to share 1, with 4 to {FINE} bins, and group 0 or at least 2; "
                f"got keys={self.keys}, values={self.values}, group={self.group}."
            )

    def bins(self, name: str, depth: float) -> int:
        """Bins of "keys" or "values" at this depth, 0 to 1."""
        return next(bins for share, bins in getattr(self, name) if depth < share or share >= 1)

    def encode(self, x: Float[Tensor, "lanes entries dim"], bins: int) -> Codes:
        """The codes of keys or values."""
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        first = torch.arange(x.shape[1], device=x.device) % self.group == 0 if self.group else None
        if first is None:
            none, (codes, scale) = x[:, :0], _rounded(x, bins)
            return Codes(none.to(torch.int16), codes, none[..., 0].half(), scale, bins, 0)
        anchors, anchor_scale = _rounded(x[:, first], FINE)
        near = _near(anchors * (anchor_scale.to(x) / (FINE // 2 - 1))[..., None], self.group, x.shape[1])
        others, other_scale = _rounded((x - near)[:, ~first], bins)
        return Codes(anchors, others, anchor_scale, other_scale, bins, self.group)


def _rounded(x: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Codes and the 16-bit scale of every token of every lane."""
    most, high = bins // 2 - 1, torch.finfo(torch.float16)
    scale = x.abs().amax(-1).clamp(min=high.tiny, max=high.max).half()
    codes = (x * (most / scale.to(x))[..., None]).round().clamp(-most, most)
    return codes.to(torch.int16), scale


def _near(anchors: Tensor, group: int, entries: int) -> Tensor:
    """The anchor of every entry."""
    return anchors.repeat_interleave(group, dim=1)[:, :entries]
