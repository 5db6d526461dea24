r"""Sinks that come after the first one lose attention to all other tokens, in heads where that helps.

    s_j = mean over queries that see j of A_ij        sinks = {j : s_j > t}, without the first of them
    A_ij <- b A_ij  for sinks        A_ik <- A_ik (1 + (1 - b) sum_sinks A_ij / sum_others A_ij)  for the others

Source:  ACT, arXiv 2406.15765, sec. 4 (sinks, heads chosen on a held-out set, redistribution); the public code for details.
Names:   our `strength` is 1 - b: what is taken from a sink; `threshold` is t; `chosen` are (layer, head) pairs.
         `with steer(model, SinkCalibration(chosen=heads)): model.generate(...)`
Cost:    a map of T^2 at the sites where it acts, in the prompt; nothing in decoding.
Differs: with padding the first sink is the first of each row, and a query that sees sinks alone keeps its row; the paper's
         code leaves out the last layer too, which `where=` can.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from attime.control.call import Call
from attime.control.chosen import check_heads, chosen_heads
from attime.control.contract import Control, Traits
from attime.errors import AttimeError
from attime.site import Site, Where, layer

__all__ = ["SinkCalibration", "helpful_heads"]

Maps = Float[Tensor, "batch heads query key"]
Head = tuple[int, int]


@final
@dataclass(frozen=True, kw_only=True)
class SinkCalibration(Control):
    """Attention of sinks beyond the first goes to the other tokens, while a prompt is read (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(kinds=("self",))
    where: ClassVar[Where | None] = ~layer(0, 1)
    strength: float = 0.6
    threshold: float = 0.1
    chosen: tuple[Head, ...] | None = None
    """(layer, head) pairs where it acts; None: all."""

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1 or not 0 <= self.threshold < 1:
            raise AttimeError(
                f"SinkCalibration needs strength from 0 to 1 and threshold from 0 up to 1; got strength={self.strength}, "
                f"threshold={self.threshold}."
            )

    def check(self, sites: Sequence[Site]) -> None:
        check_heads(self, self.chosen, sites)

    def maps(self, maps: Maps, call: Call) -> Maps:
        here = chosen_heads(self.chosen, call)
        if self.strength == 0 or maps.shape[2] != maps.shape[3] or not here:
            return maps
        heads = torch.zeros(maps.shape[1], dtype=torch.bool, device=maps.device)
        heads[here] = True
        queries = call.seen.to(maps.dtype).expand_as(maps).sum(2).clamp(min=1)
        sinks = maps.sum(2) / queries > self.threshold
        sinks = (sinks & (sinks.cumsum(-1) > 1) & heads[:, None])[:, :, None]
        taken = (maps * sinks).sum(-1, keepdim=True)
        others = (maps * ~sinks).sum(-1, keepdim=True)
        moved = torch.where(sinks, (1 - self.strength) * maps, maps * (1 + self.strength * taken / others))
        return torch.where((taken > 0) & (others > 0), moved, maps)

    @classmethod
    def examples(cls) -> Sequence["SinkCalibration"]:
        return [cls(threshold=0.06), cls(strength=1.0, threshold=0.0, chosen=((0, 1), (2, 0)))]


def helpful_heads(
    control: SinkCalibration, heads: Iterable[Head], score: Callable[[SinkCalibration], float]
) -> tuple[Head, ...]:
    """Those heads that raise the score when calibrated alone; `score` runs a held-out set under the control that it is given."""
    before = score(replace(control, strength=0.0))
    return tuple(head for head in heads if score(replace(control, chosen=(head,))) > before)
