r"""Clips are written into a few tokens each, every clip knowing those before it; a question chooses which are read.

    [. ; H_k ; c_k] = encoder([H_{k-1} ; clip k ; mean of clip k as `tokens` tokens ; end])        chosen: top cos(question, c_k)

The encoder is causal, so the last tokens hold what stands before them: the memory H_k, and with the very last a key c_k.

Source:  VideoStreaming (memory-propagated encoding, adaptive memory selection), arXiv 2405.16009, sec. 3.2 and 3.3.
Names:   `frames` is their T = 16, `tokens` their T times P, `chosen` their V = 4.
Cost:    one encoder pass over 2 `tokens` + `frames` * cells^2 + 1 tokens per clip; a question costs a product with the keys.
Differs: a small encoder of our own instead of the first layers of a language model; positions are learned for the clip's
         frames only. At most `clips` clips stay: the earlier of the two most similar neighbours goes. To read without a
         question is to read the latest clips.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from attime.errors import AttimeError
from attime.memory.banks.attend import Attend
from attime.memory.banks.coarser import coarser
from attime.memory.banks.contract import Entry, FrameBank, Kept, Parts
from attime.memory.banks.frame_pyramid import most_alike

__all__ = ["ClipMemories"]

Rows = Float[Tensor, "*batch _ dim"]


@final
class ClipMemories(FrameBank, nn.Module):
    """`tokens` tokens per clip of `frames` frames (see the module docstring)."""

    def __init__(
        self,
        dim: int,
        *,
        heads: int = 4,
        layers: int = 2,
        frames: int = 16,
        cells: int = 4,
        tokens: int = 64,
        chosen: int = 4,
        clips: int = 1024,
        propagates: bool = True,
    ) -> None:
        super().__init__()
        if min(layers, frames, cells, tokens, chosen) < 1 or clips < chosen:
            raise AttimeError(
                f"ClipMemories needs layers, frames, cells, tokens, chosen >= 1 and clips >= chosen; got layers={layers}, "
                f"frames={frames}, cells={cells}, tokens={tokens}, chosen={chosen}, clips={clips}."
            )
        self.dim, self.frames, self.cells, self.tokens = dim, frames, cells, tokens
        self.chosen, self.clips, self.propagates = chosen, clips, propagates
        self.layers = nn.ModuleList([Attend(dim, heads=heads, causal=True) for _ in range(layers)])
        self.place = nn.Parameter(torch.zeros(frames, dim))
        self.summary, self.end = nn.Parameter(torch.zeros(tokens, dim)), nn.Parameter(torch.randn(dim))

    def take(self, parts: Parts, new: Entry) -> Parts:
        open_ = (*parts.get("open", ()), replace(new, frame=coarser(new.frame, self.cells)))
        clips = parts.get("clips", ())
        if len(open_) < self.frames:
            return {"open": open_, "clips": clips}
        clips = (*clips, self._encoded(clips, open_))
        if len(clips) > self.clips:
            out = most_alike([_key(entry) for entry in clips[:-1]])
            clips = clips[:out] + clips[out + 1 :]
        return {"open": (), "clips": clips}

    def encode(
        self, before: Rows | None, clip: Float[Tensor, "*batch frames cells dim"]
    ) -> tuple[Rows, Float[Tensor, "*batch dim"]]:
        """The memory of a clip and its key; `before` is the memory of the clip before it."""
        rows = (clip + self.place[: clip.shape[-3], None]).flatten(-3, -2)
        batch = clip.shape[:-3]
        mean = F.adaptive_avg_pool1d(clip.flatten(-3, -2).transpose(-2, -1), self.tokens).transpose(-2, -1)
        x = torch.cat([rows, mean + self.summary, self.end.expand(*batch, 1, -1)], dim=-2)
        if before is not None:
            x = torch.cat([before, x], dim=-2)
        for layer in self.layers:
            x = layer(x)
        return x[..., -1 - self.tokens : -1, :].clone(), x[..., -1, :].clone()

    def select(self, kept: Kept, question: Float[Tensor, " dim"]) -> list[Entry]:
        """The `chosen` clips whose keys are most like the question, in order of time."""
        entries = self._clips(kept)
        if question.shape != (self.dim,):
            raise AttimeError(f"ClipMemories.select needs a question of dim={self.dim}; got {tuple(question.shape)}.")
        if not entries:
            raise AttimeError("ClipMemories has seen no frame yet: write before you select.")
        keys = torch.stack([_key(entry) for entry in entries])
        liked = F.cosine_similarity(keys, question.to(keys.dtype), dim=-1).topk(min(self.chosen, len(keys))).indices
        return [entries[place] for place in sorted(liked.tolist())]

    def _clips(self, kept: Kept) -> list[Entry]:
        """All clips, the open one encoded as far as it goes."""
        clips, open_ = kept.parts.get("clips", ()), kept.parts.get("open", ())
        return [*clips, *([self._encoded(clips, open_)] if open_ else [])]

    def _encoded(self, clips: tuple[Entry, ...], frames: tuple[Entry, ...]) -> Entry:
        before = clips[-1].frame[0] if clips and self.propagates else None
        clip = torch.stack([entry.frame.flatten(0, 1) for entry in frames]).to(self.end.dtype)
        memory, key = self.encode(before, clip)
        return replace(frames[-1], frame=memory[None], weight=float(len(frames)), key=key)

    def shown(self, kept: Kept) -> Iterable[Entry]:
        return self._clips(kept)[-self.chosen :]

    def budget(self, height: int, width: int) -> int:
        return self.chosen * self.tokens

    @classmethod
    def examples(cls) -> Sequence["ClipMemories"]:
        return [
            cls(8, heads=2, layers=1, frames=4, cells=2, tokens=3, chosen=2, clips=5),
            cls(8, heads=1, frames=3, cells=1, tokens=2, chosen=1, clips=3, propagates=False),
        ]


def _key(entry: Entry) -> Tensor:
    assert entry.key is not None
    return entry.key
