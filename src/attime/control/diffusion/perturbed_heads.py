r"""Some heads look at less than they could: their maps go part of the way to the identity. What is then worse is what they do.

    A' = (1 - u) A + u I        for queries of frames; equally o' = (1 - u) o + u v
    e~ = e + s (e - e')         e' what the model says while these heads are perturbed

Source:  HeadHunter and SoftPAG, arXiv 2506.10978; all heads of a layer and u = 1: perturbed-attention guidance, arXiv 2403.17377.
Names:   our `strength` is u; `chosen` are paths of sites with numbers of heads, None: all. `attime.hub.guide` is the guidance,
         with s as its scale; `hunt` is HeadHunter's search.
Cost:    attention itself stays the fast one. Guidance runs the model twice; `hunt` asks for one score per head and round.
Differs: words among the tokens are not perturbed. Who watches maps sees them as they were before.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from attime.control.call import Call
from attime.control.chosen import Head, check_heads, chosen_heads
from attime.control.contract import Control, Traits
from attime.errors import AttimeError
from attime.site import Site

__all__ = ["PerturbedHeads", "hunt"]

Heads = Float[Tensor, "batch heads time head_dim"]


@final
@dataclass(frozen=True, kw_only=True)
class PerturbedHeads(Control):
    """Chosen heads look more at the token that asks, and less at all others (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(kinds=("spatial", "temporal", "joint"), layout=True)
    chosen: tuple[Head, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise AttimeError(
                f"PerturbedHeads goes a share of the way, strength from 0 to 1; got strength={self.strength}."
            )

    def check(self, sites: Sequence[Site]) -> None:
        check_heads(self, self.chosen, sites)

    def acts(self, call: Call) -> bool:
        return super().acts(call) and bool(chosen_heads(self.chosen, call))

    def outputs(self, out: Heads, call: Call) -> Heads:
        here = chosen_heads(self.chosen, call)
        if self.strength == 0 or not here or call.layout is None:
            return out
        frames = slice(call.layout.start, call.layout.stop)
        made = out.clone()
        made[:, here, frames] = torch.lerp(out[:, here, frames], call.v[:, here, frames], self.strength)
        return made

    @classmethod
    def examples(cls) -> Sequence["PerturbedHeads"]:
        names = ["layers.1.attention", "up_blocks.1.motion_modules.0.transformer_blocks.0.attn1"]
        return [cls(), cls(strength=0.5, chosen=tuple((name, 1) for name in names), steps=range(1))]


def hunt(
    score: Callable[[tuple[Head, ...]], float], heads: Sequence[Head], *, rounds: int = 2, keep: int = 1
) -> tuple[Head, ...]:
    """Heads that do well together: in each round every other head joins those that were kept, and the `keep` with the highest
    scores stay. What `score` is given is the set to be perturbed; it may sample, judge and average as it likes."""
    if rounds < 1 or keep < 1 or rounds * keep > len(set(heads)):
        raise AttimeError(
            f"hunt needs rounds >= 1, keep >= 1 and as many heads as it shall keep; got rounds={rounds}, keep={keep} and "
            f"{len(set(heads))} heads."
        )
    kept: tuple[Head, ...] = ()
    for _ in range(rounds):
        rest = [head for head in dict.fromkeys(heads) if head not in kept]
        scores = {head: score((*kept, head)) for head in rest}
        kept += tuple(sorted(rest, key=scores.__getitem__, reverse=True)[:keep])
    return kept
