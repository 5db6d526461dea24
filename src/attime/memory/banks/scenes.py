r"""Where scenes end: at valleys of the similarity of neighbouring frames that are deep for this stream.

    s_t = cos(f_t, f_{t+1})        d_t = left_t + right_t - 2 s_t        cut after t where d_t > mean(d) + alpha std(d)

left_t and right_t are what similarity climbs to on either side, without a step down. On a stream the right side is not
there yet: `SceneEnds` uses left_t - s_t alone, and mean and deviation of what has come so far.

Source:  VideoLLaMB (SceneTiling), arXiv 2409.01071, sec. 3.1; after TextTiling, Hearst 1997.
Cost:    one pass; a few numbers of state on a stream.
Differs: offline not at all. On a stream the paper's captions use left depth with the whole video's mean and deviation.
"""

from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from attime.errors import AttimeError

__all__ = ["SceneEnds", "depth_scores", "scene_cuts"]


def depth_scores(similarity: Float[Tensor, " pairs"]) -> Float[Tensor, " pairs"]:
    """How deep each similarity lies below the peaks on either side of it."""
    left, right = _climbed(similarity), _climbed(similarity.flip(0)).flip(0)
    return left + right - 2 * similarity


def scene_cuts(
    features: Float[Tensor, "time dim"], *, alpha: float = 0.5, count: int | None = None
) -> Int[Tensor, " cuts"]:
    """The last frame of each scene but the last: where the depth exceeds mean + `alpha` deviations, or the `count` deepest."""
    if len(features) < 3 or (count is not None and not 0 <= count < len(features)):
        raise AttimeError(
            f"scene_cuts needs three frames or more and 0 <= count < frames; got {len(features)} frames and count={count}."
        )
    depth = depth_scores(F.cosine_similarity(features[:-1], features[1:], dim=-1))
    if count is not None:
        return depth.topk(count).indices.sort().values
    deviation, mean = torch.std_mean(depth)
    return (depth > mean + alpha * deviation).nonzero()[:, 0]


@final
@dataclass(frozen=True, kw_only=True)
class SceneEnds:
    """The same on a stream: a value that says of each new frame whether a scene has ended before it."""

    alpha: float = 0.5
    before: float = 1.0
    """Similarity of the last two frames."""
    peak: float = 1.0
    """What it has climbed to, going back without a step down."""
    count: float = 0.0
    mean: float = 0.0
    spread: float = 0.0
    """Sum of the squared deviations of the depths so far."""

    def after(self, similarity: float) -> tuple["SceneEnds", bool]:
        """With one more similarity, and whether it ends a scene."""
        peak = self.peak if self.before >= similarity else similarity
        depth = peak - similarity
        count = self.count + 1
        mean = self.mean + (depth - self.mean) / count
        spread = self.spread + (depth - self.mean) * (depth - mean)
        deviation = (spread / (count - 1)) ** 0.5 if count > 1 else 0.0
        made = replace(self, before=similarity, peak=peak, count=count, mean=mean, spread=spread)
        return made, depth > mean + self.alpha * deviation

    def numbers(self) -> list[float]:
        """What it has gathered ..."""
        return [self.before, self.peak, self.count, self.mean, self.spread]

    @classmethod
    def restore(cls, numbers: list[float], *, alpha: float) -> "SceneEnds":
        """... and the value again."""
        before, peak, count, mean, spread = numbers
        return cls(alpha=alpha, before=before, peak=peak, count=count, mean=mean, spread=spread)


def _climbed(similarity: Float[Tensor, " pairs"]) -> Float[Tensor, " pairs"]:
    """What going left from each place leads to before the first step down."""
    made, peak, before = [], -torch.inf, -torch.inf
    for value in similarity.tolist():
        peak = peak if before >= value else value
        before = value
        made.append(peak)
    return similarity.new_tensor(made)
