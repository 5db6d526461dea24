r"""Radial attention for video: frames look at frames through a band that narrows, then thins out, with their distance.

    o_i = sum_j softmax_j(q_i k_j / sqrt(d)) v_j        place a of frame s reads place b of frame t where
    |a - b| <= max(block, decay L / 2^g),  D = |s - t|,  g = bits of D,  L = 2^(bits of places per frame)
    D mod floor(block / (L / 2^g)) = 0     where L / 2^g < block
    all of it for D <= 1 (where not thinned out), and all of frame 0 for every query where `sink`

Source:  Radial Attention, arXiv 2506.19852, sec. 4.2, eq. 3-4; rule checked against its public code.
Names:   our `decay` is their decay_factor (0.2 for Wan, 0.95 for Hunyuan), `sink` their first frame (Wan, not Hunyuan).
Cost:    O(C log F) pairs of blocks per block of F frames: 4 C sum_D min(n, 2 w_D + 1) operations per place of frames of n.
Differs: the rule itself, place by place; theirs keeps the blocks of 128 x 128 that the rule fills well enough.
         No text tokens; dense first steps and layers are the caller's.
"""

import math
from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from attime.attention import spans
from attime.attention.contract import Cost, Mixer, Traits
from attime.attention.heads import join_heads, per_head, split_heads
from attime.attention.kernels.blocks import attend_blocks
from attime.errors import AttimeError

__all__ = ["Radial"]


@final
class Radial(Mixer):
    """Attention that thins out with distance in time (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(causal=False, valid=False, grid=True)

    def __init__(self, dim: int, *, heads: int = 2, decay: float = 0.2, block: int = 128, sink: bool = True) -> None:
        super().__init__()
        self.dim, self.heads, self.head_dim = dim, heads, per_head(dim, heads, who="Radial")
        if decay <= 0 or block < 1:
            raise AttimeError(f"Radial needs decay > 0 and block >= 1; got decay={decay}, block={block}.")
        self.decay, self.block, self.sink = decay, block, sink
        self.inputs = nn.Linear(dim, 3 * dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)

    def span(self, frames: int, places: int) -> spans.Span:
        """Who sees whom in a clip of `frames` frames of `places` places, laid out frame by frame."""
        radial = spans.Radial(frames, places, decay=self.decay, block=self.block)
        return radial | spans.Sinks(places) if self.sink else radial

    def mix(self, x: Tensor, state: None, valid: None) -> tuple[Tensor, None]:
        q, k, v = (split_heads(each, self.heads) for each in self.inputs(x.flatten(1, 3)).chunk(3, dim=-1))
        span = self.span(x.shape[1], x.shape[2] * x.shape[3])
        out = attend_blocks(q, k, v, span.blocks(q.shape[2]))
        return self.output(join_heads(out)).unflatten(1, x.shape[1:4]), None

    def reference(self, x: Tensor) -> Tensor:
        q, k, v = (split_heads(each, self.heads) for each in self.inputs(x.flatten(1, 3)).chunk(3, dim=-1))
        frames, places = x.shape[1], x.shape[2] * x.shape[3]
        apart = torch.arange(places)[:, None] - torch.arange(places)
        rows = []
        for one in range(frames):
            pairs = []
            for other in range(frames):
                left = 2.0 ** (places.bit_length() - abs(one - other).bit_length())
                kept = left >= self.block or abs(one - other) % math.floor(self.block / left) == 0
                whole = abs(one - other) <= 1
                seen = apart.abs() <= (places if whole else max(self.block, self.decay * left))
                pairs.append(torch.ones_like(seen) if self.sink and other == 0 else seen & kept)
            rows.append(torch.cat(pairs, dim=1))
        seen = torch.cat(rows).to(x.device)
        scores = (q @ k.mT / self.head_dim**0.5).masked_fill(~seen, -torch.inf)
        return self.output(join_heads(scores.softmax(-1) @ v)).unflatten(1, x.shape[1:4])

    def cost(self, length: int, dtype: torch.dtype = torch.float32, *, frame: int = 3600) -> Cost:
        """Per place, borders apart, at the middle of a clip of `length` frames of `frame` places."""
        radial = spans.Radial(length, frame, decay=self.decay, block=self.block)
        widths = [radial.width(abs(other - length // 2)) for other in range(length)]
        pairs = sum(min(frame, 2 * width + 1) for width in widths if width >= 0)
        return Cost(operations=4 * self.dim * pairs, state_bytes=0, read_bytes=0)

    @classmethod
    def examples(cls) -> Sequence["Radial"]:
        return [cls(8, decay=0.2, block=24, sink=True), cls(12, heads=3, decay=0.95, block=3, sink=False)]
