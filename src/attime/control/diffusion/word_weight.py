r"""A word counts for more or for less, everywhere or in some frames: its column of cross-attention is changed after the softmax.

    A_w <- c A_w + a        for the chosen words w and frames; no row is normalised again

Source:  MotionCLR, arXiv 2410.18977, sec. 4.1: emphasis and de-emphasis a from -0.6 to 0.6; motion erasing c = 0.1, a = 0.
Names:   our `strength` goes from nothing (0) to all of the change (1); `add` is a, `times` is c; words are counted from 0 as the
         model takes them, a start token included.
Cost:    the maps of these sites are made, words by tokens.
Differs: acts on the last `asked` clips of a batch where that is given: with guidance those with words come last.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attime.control.call import Call
from attime.control.chosen import check_words
from attime.control.contract import Control, Traits
from attime.errors import AttimeError

__all__ = ["WordWeight"]

Maps = Float[Tensor, "batch heads query key"]


@final
@dataclass(frozen=True, kw_only=True)
class WordWeight(Control):
    """More or less of some words, in all frames or in some (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(kinds=("cross",), rows=False, layout=True)
    words: tuple[int, ...]
    add: float = 0.0
    times: float = 1.0
    frames: range | None = None
    asked: int | None = None

    def __post_init__(self) -> None:
        if not self.words or min(self.words) < 0 or self.times < 0 or (self.asked is not None and self.asked < 1):
            raise AttimeError(
                f"WordWeight needs places of words from 0 on, times >= 0 and asked >= 1 clips; got words={self.words}, "
                f"times={self.times}, asked={self.asked}."
            )

    def maps(self, maps: Maps, call: Call) -> Maps:
        if self.strength == 0:
            return maps
        check_words(self, self.words, call.site, maps.shape[-1])
        word = torch.zeros(maps.shape[-1], dtype=torch.bool, device=maps.device)
        word[list(self.words)] = True
        there = word & self._queries(call).to(maps.device)[:, None, :, None] & (maps > 0)
        return maps + self.strength * there * (self.add + (self.times - 1) * maps)

    def _queries(self, call: Call) -> Bool[Tensor, "batch query"]:
        """Which queries are of chosen frames of chosen clips; frames are rows of the batch, or parts of one row."""
        layout = call.layout
        assert layout is not None
        (batch, _, queries, _), rows = call.q.shape, layout.rows
        chosen = torch.ones(batch, queries, dtype=torch.bool)
        if self.frames is not None:
            frame = torch.zeros(rows if layout.frames == 1 else layout.frames, dtype=torch.bool)
            frame[[each for each in self.frames if each < len(frame)]] = True
            if layout.frames == 1:
                chosen &= frame.repeat(batch // rows)[:, None]
            else:
                chosen[:, : layout.start] = chosen[:, layout.stop :] = False
                chosen[:, layout.start : layout.stop] = frame.repeat_interleave(layout.places)
        if self.asked is not None:
            chosen[: max(0, batch - self.asked * rows)] = False
        return chosen

    @classmethod
    def examples(cls) -> Sequence["WordWeight"]:
        return [
            cls(words=(0,), add=0.6),
            cls(words=(0, 1), times=0.1, frames=range(1, 3), strength=0.5, asked=1, steps=range(1)),
        ]
