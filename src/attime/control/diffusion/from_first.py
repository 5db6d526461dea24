r"""Clips of one batch look as the first of them does: with its queries, or with its maps outside the columns of changed words.

    Q_n <- Q_0        or        A_n <- A_0 outside the columns of words w        for clips n of a group, 0 the first of it

Source:  MotionCLR, arXiv 2410.18977, sec. 4.2: style transfer, queries for five of ten steps; in-place replacement of a word,
         maps of self-attention and of cross-attention outside of that word, for three.
Names:   our `clips` are those of a group: with guidance, a batch is a group without words and a group with words.
Cost:    a copy of the queries, or of the maps, which then are made.
Differs: `strength` mixes; a row of cross-attention with changed words need not sum to one, as in the paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from attime.control.call import Call
from attime.control.chosen import check_words
from attime.control.contract import Control, Traits
from attime.errors import AttimeError

__all__ = ["FromFirst"]

Heads = Float[Tensor, "batch heads time head_dim"]
Maps = Float[Tensor, "batch heads query key"]


@final
@dataclass(frozen=True, kw_only=True)
class FromFirst(Control):
    """The first clip's queries or maps for all clips of its group (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(kinds=("cross", "temporal", "spatial", "joint"), rows=False, layout=True)
    what: Literal["queries", "maps"] = "queries"
    clips: int = 2
    words: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.clips < 2 or not 0 <= self.strength <= 1:
            raise AttimeError(
                f"FromFirst needs groups of 2 clips or more and a strength from 0 to 1; got clips={self.clips}, "
                f"strength={self.strength}."
            )

    def heads(self, call: Call) -> tuple[Heads, Heads, Heads]:
        q = call.q if self.what == "maps" or self.strength == 0 else self._first(call.q, call)
        return q, call.k, call.v

    def maps(self, maps: Maps, call: Call) -> Maps:
        if self.what == "queries" or self.strength == 0:
            return maps
        made = self._first(maps, call)
        if self.words and call.site.kind == "cross":
            check_words(self, self.words, call.site, maps.shape[-1])
            words = torch.tensor(self.words, device=maps.device)
            made = made.index_copy(3, words, maps[..., words])
        return made

    def _first(self, now: Tensor, call: Call) -> Tensor:
        """The same with every clip on the way to the first of its group."""
        rows = 1 if call.layout is None else call.layout.rows
        if len(now) % (self.clips * rows):
            raise AttimeError(
                f"FromFirst needs batches of a multiple of {self.clips} clips; {call.site.name} was given {len(now) / rows:g}."
            )
        groups = now.unflatten(0, (-1, self.clips, rows))
        made = torch.lerp(groups, groups[:, :1].expand_as(groups), self.strength)
        return made.flatten(0, 2)

    @classmethod
    def examples(cls) -> Sequence["FromFirst"]:
        return [cls(), cls(what="maps", words=(1,), strength=0.5, steps=range(1))]
