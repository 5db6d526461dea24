r"""Chosen heads say nothing: what the model is worth without them tells what they are worth.

    o_h <- (1 - strength) o_h        for the chosen heads, before heads are mixed

Source:  How does attention work in vision transformers?, arXiv 2303.13731, sec. 4 (one head is pruned at a time); pruning by a
         mask on a head's output: arXiv 1905.10650, sec. 2.
Names:   `chosen` are paths of sites with numbers of heads; None: all. `attime.lens.importance` tells what it has cost.
         `with steer(model, PrunedHeads(chosen=(("vision_model.encoder.layers.3.self_attn", 1),))): model(**inputs)`
Cost:    a product; attention itself stays the fast one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from attime.control.call import Call
from attime.control.chosen import Head, check_heads, chosen_heads
from attime.control.contract import Control
from attime.errors import AttimeError
from attime.site import Site

__all__ = ["PrunedHeads"]

Heads = Float[Tensor, "batch heads time head_dim"]


@final
@dataclass(frozen=True, kw_only=True)
class PrunedHeads(Control):
    """Takes heads out of a model, wholly or in part (see the module docstring)."""

    chosen: tuple[Head, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise AttimeError(
                f"PrunedHeads takes out a share of what heads say, strength from 0 to 1; got strength={self.strength}."
            )

    def check(self, sites: Sequence[Site]) -> None:
        check_heads(self, self.chosen, sites)

    def acts(self, call: Call) -> bool:
        return super().acts(call) and bool(chosen_heads(self.chosen, call))

    def outputs(self, out: Heads, call: Call) -> Heads:
        here = chosen_heads(self.chosen, call)
        if self.strength == 0 or not here:
            return out
        left = torch.ones(out.shape[1], dtype=out.dtype, device=out.device)
        left[here] = 1 - self.strength
        return out * left[:, None, None]

    @classmethod
    def examples(cls) -> Sequence["PrunedHeads"]:
        return [cls(), cls(strength=0.5, chosen=(("layers.1.attention", 1),), steps=range(1))]
