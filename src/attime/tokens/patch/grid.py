"""Patches of video: boxes of `time` frames by `height` by `width` pixels are one token each, in the order of time.

Source:  ViViT, arXiv 2103.15691, sec. 3.2 (tubelets); with time=1 the patches of an image, ViT, arXiv 2010.11929.
Differs: no projection; edges that do not fill a box are padded by repeating the last pixel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from einops import rearrange
from torch import Tensor

from attime.errors import AttimeError
from attime.tokens.contract import Patcher

__all__ = ["GridPatches"]

BOXES = "b (t time) (h height) (w width) c"
TOKENS = "b (t h w) (time height width c)"


@final
@dataclass(frozen=True)
class GridPatches(Patcher):
    """(batch time height width channels) to (batch patches time * height * width * channels) and back.

    Tokens come frame by frame, row by row: `counts(time, height, width)` is their grid.
    """

    axes: ClassVar[str] = "batch time height width channels"
    time: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if min(self.sizes) < 1:
            raise AttimeError(f"GridPatches needs time, height and width >= 1; got {', '.join(map(str, self.sizes))}.")

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.time, self.height, self.width)

    def cut(self, data: Tensor) -> Tensor:
        return rearrange(data, f"{BOXES} -> {TOKENS}", time=self.time, height=self.height, width=self.width)

    def join(self, tokens: Tensor, lengths: Sequence[int]) -> Tensor:
        t, h, _ = self.counts(*lengths)
        box = dict(time=self.time, height=self.height, width=self.width)
        return rearrange(tokens, f"{TOKENS} -> {BOXES}", t=t, h=h, **box)

    @classmethod
    def examples(cls) -> Sequence["GridPatches"]:
        return [cls(2, 3, 4), cls(1, 2, 2)]
