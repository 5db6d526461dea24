r"""Scenes go one after the other through a transformer with memory tokens, which reads back what it remembered before.

    [M_i ; y_i] = layers([r_i ; frames of scene i])        r_{i+1} = attend(M_i, [M_1 .. M_i]) + e

Source:  VideoLLaMB (recurrent memory bridge, retrieval), arXiv 2409.01071, sec. 3.2 and 3.3.
Names:   r are read memories, e the learned read embedding, y what a language model gets; `tokens` is 32 and `frames` 8 in the paper,
         scenes end by their SceneTiling.
Cost:    layers over `tokens` + `frames` * cells^2 tokens per scene, retrieval over at most `memories` * `tokens`.
Differs: on a stream scenes end by left depth (see `scenes`); a read takes the open scene through the layers. Where there are
         too many memories the earlier of the two most similar neighbours goes, so that all stays bounded. The projection to a
         language model's width is the reader's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from attime.errors import AttimeError
from attime.memory.banks.attend import Attend, unit
from attime.memory.banks.coarser import area, coarser
from attime.memory.banks.contract import Entry, FrameBank, Kept, Parts
from attime.memory.banks.even_sample import thinned
from attime.memory.banks.frame_pyramid import most_alike
from attime.memory.banks.scenes import SceneEnds

__all__ = ["MemoryBridge"]

Rows = Float[Tensor, "*batch _ dim"]


@final
class MemoryBridge(FrameBank, nn.Module):
    """A recurrent memory over scenes (see the module docstring); `retrieves` = False is plain recurrence."""

    def __init__(
        self,
        dim: int,
        *,
        heads: int = 4,
        layers: int = 1,
        tokens: int = 32,
        frames: int = 8,
        cells: int = 12,
        memories: int = 64,
        alpha: float = 0.5,
        retrieves: bool = True,
    ) -> None:
        super().__init__()
        if min(layers, tokens, cells, memories) < 1 or frames < 2:
            raise AttimeError(
                f"MemoryBridge needs layers, tokens, cells, memories >= 1 and frames >= 2; got layers={layers}, "
                f"tokens={tokens}, frames={frames}, cells={cells}, memories={memories}."
            )
        self.tokens, self.frames, self.cells, self.memories = tokens, frames, cells, memories
        self.alpha, self.retrieves = alpha, retrieves
        self.layers = nn.ModuleList([Attend(dim, heads=heads) for _ in range(layers)])
        self.retriever = Attend(dim, heads=heads)
        self.start = nn.Parameter(torch.randn(tokens, dim))
        self.embedding = nn.Parameter(torch.zeros(tokens, dim))

    def take(self, parts: Parts, new: Entry) -> Parts:
        small = coarser(new.frame, self.cells)
        new = replace(new, frame=small, key=F.normalize(small.flatten().to(torch.float32), dim=0))
        scene, gathered = parts.get("scene", ()), parts.get("ends", ())
        if not scene:
            return {**parts, "scene": (new,), "ends": (self._told(SceneEnds(alpha=self.alpha), new),)}
        last = parts["last"][0] if "last" in parts else scene[-1]
        ends = SceneEnds.restore(gathered[0].frame.flatten().tolist(), alpha=self.alpha)
        assert last.key is not None
        assert new.key is not None
        ends, cut = ends.after(float(last.key @ new.key))
        parts = {**parts, "ends": (self._told(ends, new),), "last": (new,)}
        if cut:
            return {**parts, **self._remembered(parts), "scene": (new,)}
        return {**parts, "scene": thinned((*scene, new), self.frames)}

    def bridge(self, read: Rows, scene: Rows) -> tuple[Rows, Rows]:
        """The memory after a scene, and what has become of the scene's own tokens."""
        x = torch.cat([read.expand(*scene.shape[:-2], -1, -1), scene], dim=-2)
        for layer in self.layers:
            x = layer(x)
        return x[..., : self.tokens, :].clone(), x[..., self.tokens :, :]

    def recall(self, memories: Sequence[Rows]) -> Rows:
        """What the next scene starts with, given the memories after all scenes so far."""
        if not memories:
            return self.start + self.embedding
        latest = memories[-1]
        return (
            self.retriever(latest, torch.cat(list(memories), dim=-2)) if self.retrieves else latest
        ) + self.embedding

    def _remembered(self, parts: Parts) -> Parts:
        """The memories with that of the scene that has ended."""
        held, scene = parts.get("memories", ()), parts["scene"]
        memory, _ = self._through(held, scene)
        held = (*held, replace(scene[-1], frame=memory[None], weight=0.0, key=unit(memory.detach())))
        if len(held) > self.memories:
            out = most_alike([entry.key for entry in held if entry.key is not None])
            held = held[:out] + held[out + 1 :]
        return {"memories": held}

    def _through(self, held: tuple[Entry, ...], scene: tuple[Entry, ...]) -> tuple[Rows, Rows]:
        dtype = self.start.dtype
        read = self.recall([entry.frame[0] for entry in held])
        return self.bridge(read, torch.cat([entry.frame.flatten(0, 1).to(dtype) for entry in scene]))

    def shown(self, kept: Kept) -> Iterable[Entry]:
        scene = kept.parts.get("scene", ())
        if not scene:
            return []
        memory, made = self._through(kept.parts.get("memories", ()), scene)
        frames = made.split([entry.frame.shape[0] * entry.frame.shape[1] for entry in scene])
        seen = [replace(entry, frame=frame[None]) for entry, frame in zip(scene, frames, strict=True)]
        return [replace(scene[0], frame=memory[None], weight=0.0), *seen]

    def budget(self, height: int, width: int) -> int:
        return self.tokens + self.frames * area(height, width, self.cells)

    @staticmethod
    def _told(ends: SceneEnds, new: Entry) -> Entry:
        numbers = torch.tensor(ends.numbers(), dtype=torch.float64).view(1, 1, -1)
        return Entry(frame=numbers, when_s=new.when_s, number=new.number, weight=0.0)

    @classmethod
    def examples(cls) -> Sequence["MemoryBridge"]:
        return [
            cls(8, heads=2, tokens=3, frames=4, cells=2, memories=3, alpha=1.0),
            cls(8, heads=1, layers=2, tokens=2, frames=3, cells=1, memories=2, alpha=0.5, retrieves=False),
        ]
