r"""The words of a clip change along it: each frame reads the captions that lie around it in time, mixed by how near they are.

    k_f = sum_n w_fn k_n        v_f = sum_n w_fn v_n        w_fn = max(0, 1 - |f (N - 1) / (F - 1) - n|)

The captions come one behind the other, each as long as the others (`torch.cat(embeddings, dim=1)`).

Source:  VSTAR, arXiv 2403.13501, sec. 3.2 (video synopsis prompting: embeddings of stage prompts, interpolated over frames).
Cost:    keys for the words of all captions, each holding the same mixture, which attention cannot tell from one.
Differs: mixed are keys and values, linear in the embeddings that the block is given; captions come from the user, not from a
         language model. Only where words are read frame by frame (U-Nets, Latte), not by all frames at once (Wan).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from attime.control.call import Call
from attime.control.contract import Control, Traits
from attime.errors import AttimeError

__all__ = ["CaptionPath"]

Heads = Float[Tensor, "batch heads time head_dim"]


@final
@dataclass(frozen=True, kw_only=True)
class CaptionPath(Control):
    """From caption to caption over the frames (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(kinds=("cross",), layout=True)
    captions: int = 2

    def __post_init__(self) -> None:
        if self.strength not in (0, 1) or self.captions < 2:
            raise AttimeError(
                f"CaptionPath needs captions >= 2 and strength 1 (on) or 0 (off); got captions={self.captions}, "
                f"strength={self.strength}."
            )

    def heads(self, call: Call) -> tuple[Heads, Heads, Heads]:
        if self.strength == 0 or call.layout is None:
            return call.q, call.k, call.v
        frames, words = call.layout.rows, call.k.shape[2]
        if call.layout.frames != 1 or words % self.captions:
            raise AttimeError(
                f"CaptionPath needs words that are read frame by frame, {self.captions} captions of equal length; "
                f"{call.site.name} reads {words} words for {call.layout.frames} frames at once."
            )
        weights = self.weights(frames).to(call.k)
        return call.q, self._mixed(call.k, weights), self._mixed(call.v, weights)

    def weights(self, frames: int) -> Float[Tensor, "frames captions"]:
        """How much of each caption each frame reads; rows sum to one."""
        place = torch.linspace(0, self.captions - 1, frames, dtype=torch.float64)
        return (1 - (place[:, None] - torch.arange(self.captions)).abs()).clamp(min=0)

    def _mixed(self, each: Heads, weights: Float[Tensor, "frames captions"]) -> Heads:
        batch, heads, words, dim = each.shape
        apart = each.reshape(-1, len(weights), heads, self.captions, words // self.captions, dim)
        mixed = torch.einsum("sfhnwd,fn->sfhwd", apart, weights)
        return mixed.unsqueeze(3).expand_as(apart).reshape(batch, heads, words, dim)

    @classmethod
    def examples(cls) -> Sequence["CaptionPath"]:
        return [cls(captions=3), cls(captions=3, steps=range(1))]
