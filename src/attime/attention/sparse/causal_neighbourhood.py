r"""Neighbourhood attention on an endless video: the nearest places within a frame, and the last k frames.

    o_i = sum_j softmax_j(q_i k_j / sqrt(d)) v_j        j in N(i) = N_time x N_height x N_width
    N_time(t) = t, t - r, ..., t - (k - 1) r, as far as there are frames; the other axes as in `neighbourhood`

Source:  Faster Neighborhood Attention, arXiv 2403.04690, sec. 2 (causal axes); see `sparse.neighbourhood`.
Cost:    4 C prod(k) operations per place; keys and values of the last (k - 1) r frames are kept.
Differs: streams frame by frame, which their kernels, given whole clips, do not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attime.attention.contract import Cost, Mixer, Traits
from attime.attention.heads import join_heads, per_head, split_heads
from attime.attention.kernels.tiles import attend_tiles
from attime.attention.sparse.neighbourhood import attend_near, boxes
from attime.attention.state import State
from attime.errors import AttimeError

__all__ = ["CausalNeighbourhood"]

CAUSAL = (True, False, False)


@dataclass(frozen=True)
class FramesState(State):
    """Keys and values of the last frames, place after place."""

    keys: Float[Tensor, "batch heads places head_dim"]
    values: Float[Tensor, "batch heads places head_dim"]


@final
class CausalNeighbourhood(Mixer):
    """Attention to near places of the last frames, streaming (see the module docstring).

    `frame` is (height, width); `kernel` and `dilation` are (time, height, width).
    """

    traits: ClassVar[Traits] = Traits(bounded=True, valid=False, grid=True)

    def __init__(
        self,
        dim: int,
        *,
        frame: tuple[int, int],
        heads: int = 2,
        kernel: tuple[int, int, int] = (3, 7, 7),
        dilation: tuple[int, int, int] = (1, 1, 1),
    ) -> None:
        super().__init__()
        self.dim, self.heads, self.head_dim = dim, heads, per_head(dim, heads, who="CausalNeighbourhood")
        if min(*frame, *kernel, *dilation) < 1:
            raise AttimeError(
                f"CausalNeighbourhood needs frame, kernel and dilation >= 1; got frame={frame}, kernel={kernel}, "
                f"dilation={dilation}."
            )
        self.frame, self.kernel, self.dilation = frame, kernel, dilation
        self.inputs = nn.Linear(dim, 3 * dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)

    def begin(self, x: Tensor) -> FramesState:
        empty = x.new_zeros(x.shape[0], self.heads, 0, self.head_dim)
        return FramesState(empty, empty)

    def mix(self, x: Tensor, state: FramesState, valid: None) -> tuple[Tensor, FramesState]:
        if tuple(x.shape[2:4]) != self.frame:
            raise AttimeError(
                f"CausalNeighbourhood was built with frame={self.frame}; got frames of {tuple(x.shape[2:4])}."
            )
        q, k, v = (split_heads(each, self.heads) for each in self.inputs(x.flatten(1, 3)).chunk(3, dim=-1))
        k, v = torch.cat([state.keys.to(k.dtype), k], dim=2), torch.cat([state.values.to(v.dtype), v], dim=2)
        places = math.prod(self.frame)
        frames = k.shape[2] // places
        tiles = boxes((frames, *self.frame), self.kernel, self.dilation, CAUSAL, past=frames - x.shape[1]).to(x.device)
        out = attend_tiles(q, k, v, tiles, self.head_dim**-0.5)
        start = max(0, frames - (self.kernel[0] - 1) * self.dilation[0]) * places
        kept = FramesState(*(each[:, :, start:].to(state.keys.dtype) for each in (k, v)))
        return self.output(join_heads(out)).unflatten(1, x.shape[1:4]), kept

    def reference(self, x: Tensor) -> Tensor:
        q, k, v = self.inputs(x).unflatten(-1, (3, self.heads, self.head_dim)).unbind(-3)
        return self.output(attend_near(q, k, v, self.kernel, self.dilation, CAUSAL))

    def cost(self, length: int, dtype: torch.dtype = torch.float32) -> Cost:
        held = min(length, (self.kernel[0] - 1) * self.dilation[0])
        size = 2 * held * math.prod(self.frame) * self.dim * dtype.itemsize
        operations = 4 * self.dim * math.prod(self.kernel) * math.prod(self.frame)
        return Cost(operations=operations, state_bytes=size, read_bytes=size)

    @classmethod
    def examples(cls) -> Sequence["CausalNeighbourhood"]:
        return [
            cls(8, frame=(7, 6), kernel=(3, 3, 3)),
            cls(12, frame=(7, 6), heads=3, kernel=(2, 3, 5), dilation=(1, 2, 1)),
        ]
