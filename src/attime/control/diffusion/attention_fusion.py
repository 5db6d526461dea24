r"""A clip is painted again for other words, with the attention of the first time wherever the words do not ask for a change.

    cross:   A_w <- A'_w for the words w that stay, own attention for the edited ones, rows normalised
    others:  A_p <- M_p A_p + (1 - M_p) A'_p        M_p = [mean of A'_pw over sites, heads, edited words > threshold * most]

A' are the maps of the clip with the words that it had, step by step, from `watch(model, keep="maps")` around a walk from its
inverted noise: `{site: seen[site] for site in seen.sites}`. M are the places that looked at an edited word.

Source:  FateZero, arXiv 2303.09535, sec. 3.2 (attention map fusion), eq. 6 and 7.
Names:   `steps` are those of the fusion (their self_replace_steps), `cross_steps` of words (cross_replace_steps), as ranges:
         .6 to .8 of all in the paper; `threshold` is their blend_th.
Cost:    the maps of all steps are held by the user.
Differs: maps of the inverted walk, which ends at the clip to a stated error, instead of those met while inverting; temporal
         and joint attention take part as self attention does; keys are those of the model, without the middle frame's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from attime.control.call import Call, Layout
from attime.control.chosen import check_source, check_words
from attime.control.contract import Control, Traits
from attime.errors import AttimeError
from attime.site import Site

__all__ = ["AttentionFusion"]

Maps = Float[Tensor, "batch heads query key"]


@final
@dataclass(frozen=True, kw_only=True)
class AttentionFusion(Control):
    """Maps of the clip that is edited, outside of what the edited words are about (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(kinds=("cross", "spatial", "temporal", "joint"), layout=True)
    source: Mapping[Site, Sequence[Tensor]] = field(repr=False)
    """Per site its maps, step by step, of as many samples as are painted."""
    words: tuple[int, ...]
    """Places of the edited words among the words."""
    threshold: float = 0.3
    """Share of the most attended place from which a place is edited; 1 and more: none is."""
    cross_steps: range | None = None
    """Steps with the words' attention of the source; None: all of `steps`."""

    def __post_init__(self) -> None:
        crossed = {site: given for site, given in self.source.items() if site.kind == "cross"}
        if not crossed or not self.words or self.threshold < 0 or not 0 <= self.strength <= 1:
            raise AttimeError(
                f"AttentionFusion needs maps of a cross site among its source, an edited word, threshold >= 0 and strength from 0 "
                f"to 1; got maps of {len(self.source)} sites, words={self.words}, threshold={self.threshold}, "
                f"strength={self.strength}."
            )
        for site, given in crossed.items():
            for each in given:
                check_words(self, self.words, site, each.shape[-1])

    def check(self, sites: Sequence[Site]) -> None:
        check_source(self, self.source, sites)

    def maps(self, maps: Maps, call: Call) -> Maps:
        given = self.source.get(call.site, ())
        if self.strength == 0 or call.step >= len(given) or call.layout is None:
            return maps
        other = given[call.step].to(maps)
        if other.shape != maps.shape:
            raise AttimeError(
                f"AttentionFusion has maps {tuple(other.shape)} for {call.site.name}, where {tuple(maps.shape)} are due: take "
                f"them from as many samples and frames, with the same guidance."
            )
        if call.site.kind == "cross":
            if self.cross_steps is not None and call.step not in self.cross_steps:
                return maps
            own = torch.zeros(maps.shape[-1], dtype=torch.bool, device=maps.device)
            own[list(self.words)] = True
        else:
            own = self._edited(call, len(maps), call.layout)
        made = torch.where(own, maps, torch.lerp(maps, other, self.strength)) * (maps > 0)
        return made / made.sum(-1, keepdim=True).clamp(min=torch.finfo(made.dtype).tiny)

    def _edited(self, call: Call, rows: int, layout: Layout) -> Bool[Tensor, "batch 1 query 1"]:
        """Which queries of a call looked at the edited words in this step of the source; words themselves did."""
        temporal, apart = call.site.kind == "temporal", call.site.kind == "spatial"
        samples = rows // layout.rows
        frames, places = (
            layout.rows if apart else layout.frames,
            layout.rows if temporal else layout.places,
        )
        wide = layout.wide or places
        heat = torch.zeros(samples * frames, places // wide, wide, device=call.q.device)
        for site, given in self.source.items():
            if site.kind == "cross" and call.step < len(given):
                seen = given[call.step][..., list(self.words)].sum(-1).mean(1).to(heat).reshape(samples * frames, -1)
                zoom = (seen.shape[1] / places) ** 0.5
                lines = max(1, round(heat.shape[1] * zoom))
                heat = heat + F.adaptive_avg_pool2d(
                    seen.reshape(samples * frames, lines, -1), (heat.shape[1], heat.shape[2])
                )
        heat = heat.reshape(samples, frames, places)
        most = heat.amax((1, 2), keepdim=True)
        inside = (heat > self.threshold * most) if self.threshold < 1 else torch.zeros_like(heat, dtype=torch.bool)
        if temporal:
            return inside.transpose(1, 2).reshape(rows, 1, frames, 1)
        if apart:
            return inside.reshape(rows, 1, places, 1)
        own = torch.ones(samples, call.q.shape[2], dtype=torch.bool, device=inside.device)
        own[:, layout.start : layout.stop] = inside.flatten(1)
        return own[:, None, :, None]

    @classmethod
    def examples(cls) -> Sequence["AttentionFusion"]:
        sizes = {"cross": (8, 4, 3), "spatial": (8, 4, 4), "joint": (2, 19, 19)}
        made = {
            Site(name="layers.0.attention", part="model", kind=kind, layer=0, heads=2): [
                torch.linspace(-9, 9, rows * 2 * queries * keys).reshape(rows, 2, queries, keys).sin().softmax(-1)
            ]
            * 2
            for kind, (rows, queries, keys) in sizes.items()
        }
        return [
            cls(source=made, words=(1,)),
            cls(source=made, words=(0, 2), threshold=2.0, strength=0.5, steps=range(1), cross_steps=range(0)),
        ]
