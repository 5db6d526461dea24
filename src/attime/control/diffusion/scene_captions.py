r"""Every scene of a clip reads its own caption: where words come in, a frame sees the words of the scene that it is in and no others.

    A_f = softmax(S_f + M_f)        M_fw = 0 where word w is of the caption of scene i(f), else -inf        i(f) = ceil(f n / F)

The captions come one behind the other, each as long as the others (`torch.cat(embeddings, dim=1)`); attention over time is
left alone, so that who is seen stays who it was.

Source:  TALC, arXiv 2405.04682, sec. 3.2 (time-aligned captions), without the training.
Names:   our `begins` are the first frames of the second scene and of those after it; unless given, all scenes are as long.
Cost:    scores for the words of all scenes, where the paper gives each frame one caption; nothing else.
Differs: the paper repeats embeddings per frame in the batch, which models whose words are seen by all frames at once (Wan)
         do not take: here the same is a mask, exactly, in both. Frames are those of the model's tokens: of a model that
         takes two frames for one, scenes change at every second frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attime.control.call import Call
from attime.control.contract import Control, Traits
from attime.errors import AttimeError

__all__ = ["SceneCaptions"]

Maps = Float[Tensor, "batch heads query key"]


@final
@dataclass(frozen=True, kw_only=True)
class SceneCaptions(Control):
    """Each frame attends to the caption of its own scene (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(kinds=("cross",), layout=True)
    scenes: int = 2
    begins: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.strength not in (0, 1):
            raise AttimeError(
                f"SceneCaptions is on (strength 1) or off (0), there is no between; got strength={self.strength}."
            )
        begins = (0, *(self.begins or ()))
        wrong = self.begins is not None and any(one >= two for one, two in pairwise(begins))
        if self.scenes < 1 or wrong or (self.begins is not None and len(begins) != self.scenes):
            raise AttimeError(
                f"SceneCaptions needs scenes >= 1 and, as begins, a rising frame above 0 for each scene but the first; got "
                f"scenes={self.scenes}, begins={self.begins}."
            )

    def scores(self, scores: Maps, call: Call) -> Maps:
        if not self.acts(call):
            return scores
        words = scores.shape[-1]
        if words % self.scenes:
            raise AttimeError(
                f"SceneCaptions needs {self.scenes} captions of one length, one behind the other; got {words} words at "
                f"{call.site.name}, which {self.scenes} does not divide."
            )
        of_word = torch.arange(words, device=scores.device) // (words // self.scenes)
        of_query = self._of_queries(call).to(scores.device)
        return scores.masked_fill(of_query[:, None, :, None] != of_word, -torch.inf)

    def scene(self, frames: int) -> Int[Tensor, " frames"]:
        """i: the number of the scene of every frame, from 0."""
        frame = torch.arange(frames)
        if self.begins is None:
            return frame * self.scenes // frames
        return torch.bucketize(frame, torch.tensor(self.begins, dtype=torch.long), right=True)

    def _of_queries(self, call: Call) -> Int[Tensor, "batch query"]:
        """The scene of every query; frames are rows of the batch, or parts of one row."""
        layout = call.layout
        assert layout is not None
        batch, queries = call.q.shape[0], call.q.shape[2]
        if layout.frames == 1:
            scene = self.scene(layout.rows).repeat(batch // layout.rows)
            return scene[:, None].expand(-1, queries)
        scene = torch.zeros(queries, dtype=torch.long)
        scene[layout.start : layout.stop] = self.scene(layout.frames).repeat_interleave(layout.places)
        return scene.expand(batch, -1)

    @classmethod
    def examples(cls) -> Sequence["SceneCaptions"]:
        return [cls(scenes=3), cls(scenes=3, begins=(1, 2), steps=range(1))]
