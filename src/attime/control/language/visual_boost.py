r"""Who writes looks harder at chosen visual tokens: their logits are raised by a share of their size, in the last row alone.

    S_nj <- S_nj + a |S_nj|  for local tokens        S_nj <- S_nj + b |S_nj|  for summary tokens        n: the last query
    local: the quarter of tokens with most attention in the first layer of the vision tower, summary tokens left out
    summary: outliers of attention late in the tower, above the third quartile + 1.5 times the range between quartiles

Source:  PAINT, arXiv 2501.12206, sec. 4; the public code for a = 0.7, b = 0.3. All visual tokens alike is PAI, arXiv 2407.21771.
Names:   our `local_gain` is a, `summary_gain` is b; `strength` scales both.
         `with steer(model, VisualBoost()): model.generate(**inputs)`
Cost:    scores of T^2 while a prompt is read, a row in decoding.
Differs: no contrast with logits without a picture (PAI's other half). Attention of the tower is what any token gives
         (`local_and_summary`), as many towers have no class token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attime.control.call import Call
from attime.control.contract import Control, Traits
from attime.errors import AttimeError
from attime.site import Where, layer

__all__ = ["VisualBoost", "local_and_summary"]

Maps = Float[Tensor, "batch heads query key"]
Marks = Bool[Tensor, "batch visual"]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class VisualBoost(Control):
    """Raises the last query's logits of visual tokens (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(kinds=("self",), visual=True)
    where: ClassVar[Where | None] = ~layer(0, 1)
    local: Marks | None = None
    """Which visual tokens are local, in the order in which the model reads them; None: all that are not summary."""
    summary: Marks | None = None
    """Which are summary; None: none."""
    local_gain: float = 0.7
    summary_gain: float = 0.3

    def __post_init__(self) -> None:
        if min(self.strength, self.local_gain, self.summary_gain) < 0:
            raise AttimeError(
                f"VisualBoost needs strength and gains of 0 or more; got strength={self.strength}, "
                f"local_gain={self.local_gain}, summary_gain={self.summary_gain}."
            )

    def scores(self, scores: Maps, call: Call) -> Maps:
        if self.strength == 0:
            return scores
        assert call.visual is not None
        summary = torch.zeros_like(call.visual) if self.summary is None else _placed(self.summary, call.visual)
        local = call.visual & ~summary if self.local is None else _placed(self.local, call.visual) & ~summary
        gain = self.strength * (self.local_gain * local.to(scores.dtype) + self.summary_gain * summary.to(scores.dtype))
        last = scores[:, :, -1:]
        size = last.abs().masked_fill(~call.seen[..., -1:, :], 0.0)
        return torch.cat([scores[:, :, :-1], last + gain[:, None, None] * size], dim=2)

    @classmethod
    def examples(cls) -> Sequence["VisualBoost"]:
        place = torch.arange(32).reshape(2, 16)
        return [
            cls(),
            cls(strength=0.5, local=place % 3 == 0, summary=place % 5 == 0, local_gain=1.0, summary_gain=0.5),
        ]


def _placed(marks: Marks, visual: Bool[Tensor, "batch key"]) -> Bool[Tensor, "batch key"]:
    """Marks of visual tokens as marks of keys."""
    marks = marks.to(visual.device).expand(len(visual), -1) if len(marks) == 1 else marks.to(visual.device)
    counts = visual.sum(1)
    if len(marks) != len(visual) or bool((counts != marks.shape[1]).any()):
        raise AttimeError(
            f"marks of visual tokens must be (batch visual) for {len(visual)} rows with {counts.tolist()} visual tokens; "
            f"got {tuple(marks.shape)}."
        )
    return torch.zeros_like(visual).masked_scatter(visual, marks)


def local_and_summary(
    first: Float[Tensor, "batch visual"], late: Float[Tensor, "batch visual"], *, share: float = 0.25
) -> tuple[Marks, Marks]:
    """Marks of local and of summary tokens, from the attention that each got in the first and in a late layer of the tower."""
    if first.shape != late.shape or not 0 < share <= 1:
        raise AttimeError(
            f"local_and_summary needs attention of the same tokens twice and a share above 0, up to 1; got "
            f"{tuple(first.shape)}, {tuple(late.shape)}, share={share}."
        )
    low, high = (late.quantile(quantile, dim=1, keepdim=True) for quantile in (0.25, 0.75))
    summary = late > high + 1.5 * (high - low)
    top = first.topk(max(1, int(share * first.shape[1])), dim=1).indices
    local = torch.zeros_like(summary).scatter(1, top, True)
    return local & ~summary, summary
