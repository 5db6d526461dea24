"""Patches of a series: `size` time steps of all channels are one token, every `stride` steps.

Source:  PatchTST, arXiv 2211.14730, sec. 3.1 (patches of a series, which may overlap).
Names:   their patch length P and stride S are `size` and `stride`.
Differs: the end is padded to fill the last patch and no further, by repeating the last value; channels stay together in
         a token: fold them into the batch for one token per channel. The way back is the mean of overlapping copies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from einops import rearrange
from torch import Tensor

from attime.errors import AttimeError
from attime.tokens.contract import Patcher

__all__ = ["SeriesPatches"]


@final
@dataclass(frozen=True)
class SeriesPatches(Patcher):
    """(batch time channels) to (batch patches size * channels) and back. Without `stride` patches do not overlap."""

    axes: ClassVar[str] = "batch time channels"
    size: int
    stride: int | None = None

    def __post_init__(self) -> None:
        if self.size < 1 or not 1 <= self.strides[0] <= self.size:
            raise AttimeError(
                f"SeriesPatches needs size >= 1 and a stride from 1 to size; got size={self.size}, stride={self.stride}."
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.size,)

    @property
    def strides(self) -> tuple[int, ...]:
        return (self.size if self.stride is None else self.stride,)

    def cut(self, data: Tensor) -> Tensor:
        pieces = data.unfold(1, self.size, self.strides[0])
        return rearrange(pieces, "b patches c size -> b patches (size c)").contiguous()  # no two patches share memory

    def join(self, tokens: Tensor, lengths: Sequence[int]) -> Tensor:
        pieces = rearrange(tokens, "b patches (size c) -> size b patches c", size=self.size)
        stride, count = self.strides[0], tokens.shape[1]
        data = tokens.new_zeros(tokens.shape[0], lengths[0], pieces.shape[-1])
        copies = tokens.new_zeros(lengths[0], 1)
        for place, piece in enumerate(pieces.unbind(0)):
            steps = slice(place, place + (count - 1) * stride + 1, stride)  # this place of every patch
            data[:, steps] += piece
            copies[steps] += 1
        return data / copies

    @classmethod
    def examples(cls) -> Sequence["SeriesPatches"]:
        return [cls(4), cls(5, stride=2), cls(1)]
