r"""Frames also see the subject as other frames have it: keys and values of its tokens are put beside their own.

    o = softmax(q [K; K_s]^T) [V; V_s]        s: the tokens that attend most to the words of the subject

Where a call sees one frame, s are of the other frames of the clip. Where it sees all frames, s are of the clip as it was in the
call before at the same site: of cleaner frames, if a queue of frames is run from its head.

Source:  Ouroboros-Diffusion, arXiv 2501.09019, subject-aware cross-frame attention.
Names:   our `words` are those of the subject, counted from 0 as the model takes them; `share` is the part of a frame kept.
Cost:    share * frames * places more keys per query, and scores of cross-attention.
Differs: a fixed share of each frame, with the highest attention, in place of a threshold. Where the subject is comes from
         the cross-attention before in the same step and at the same resolution, mean over heads; the first site has none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from attime.control.call import Call
from attime.control.chosen import check_words
from attime.control.contract import Control, Traits
from attime.errors import AttimeError
from attime.site import Site

__all__ = ["SubjectKeys"]

Heads = Float[Tensor, "batch heads time head_dim"]
Framed = Float[Tensor, "clips frames heads places head_dim"]


@final
@dataclass(frozen=True, kw_only=True)
class SubjectKeys(Control):
    """Keys and values of the subject in other frames (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(kinds=("cross", "spatial", "joint"), layout=True)
    waived = {
        "hidden_keys_stay_hidden": "a mask says nothing of the keys that are added, so calls with one are refused"
    }
    words: tuple[int, ...]
    share: float = 0.25

    def __post_init__(self) -> None:
        if self.strength not in (0, 1) or not 0 < self.share <= 1 or not self.words or min(self.words) < 0:
            raise AttimeError(
                f"SubjectKeys needs words from 0 on, a share above 0 up to 1, and a strength of 1 (on) or 0; got "
                f"words={self.words}, share={self.share}, strength={self.strength}."
            )

    def check(self, sites: Sequence[Site]) -> None:
        kinds = {site.kind for site in sites}
        if "cross" not in kinds or kinds == {"cross"}:
            raise AttimeError(
                f"SubjectKeys finds the subject in cross attention and gives it to spatial or joint attention, so it needs both; "
                f"the sites that it is put on are {' and '.join(sorted(kinds))} alone: choose others by where, or a model that "
                f"reads words by cross attention."
            )

    def heads(self, call: Call) -> tuple[Heads, Heads, Heads]:
        if self.strength == 0:
            return call.q, call.k, call.v
        if call.site.kind == "cross":
            call.notes["subject"] = call.step, self._subject(call)
            return call.q, call.k, call.v
        step, subject = call.notes.get("subject", (None, None))
        k, v = _framed(call.k, call), _framed(call.v, call)
        if step != call.step or subject is None or subject.shape != (*k.shape[:2], k.shape[3]):
            return call.q, call.k, call.v
        best = subject.topk(max(1, round(self.share * k.shape[3])), dim=-1).indices[:, :, None, :, None]
        kept = [each.take_along_dim(best, dim=3) for each in (k, v)]
        if call.site.kind == "spatial":
            more = [_of_others(each) for each in kept]
        else:
            more = call.notes.get(call.site.name)
            call.notes[call.site.name] = [each.transpose(1, 2).flatten(2, 3) for each in kept]
        if more is None or more[0].shape[0] != call.k.shape[0] or not more[0].shape[2]:
            return call.q, call.k, call.v
        if call.added is not None:
            raise AttimeError(
                f"SubjectKeys adds keys, and {call.site.name} has a mask that does not know them: leave it out."
            )
        return call.q, torch.cat([call.k, more[0]], dim=2), torch.cat([call.v, more[1]], dim=2)

    def _subject(self, call: Call) -> Float[Tensor, "clips frames places"]:
        """How much every place of every frame attends to the subject's words."""
        check_words(self, self.words, call.site, call.k.shape[2])
        return _framed(call.maps[..., list(self.words)].sum(-1, keepdim=True), call).mean(2).squeeze(-1)

    @classmethod
    def examples(cls) -> Sequence["SubjectKeys"]:
        return [cls(words=(1,)), cls(words=(0, 2), share=0.5, steps=range(2))]


def _framed(x: Heads, call: Call) -> Framed:
    """Tokens of the frames alone, frame by frame."""
    layout = call.layout
    assert layout is not None
    if layout.frames == 1:
        return x.unflatten(0, (-1, layout.rows))
    return x[:, :, layout.start : layout.stop].unflatten(2, (layout.frames, layout.places)).transpose(1, 2)


def _of_others(kept: Framed) -> Heads:
    """For each frame the tokens kept of all others."""
    frames = kept.shape[1]
    others = torch.tensor(
        [[other for other in range(frames) if other != frame] for frame in range(frames)], dtype=torch.long
    )
    return kept[:, others.to(kept.device)].transpose(2, 3).flatten(3, 4).flatten(0, 1)
