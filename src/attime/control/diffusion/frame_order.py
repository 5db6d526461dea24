r"""What attention over time makes of one stretch of a clip goes to another: queries, keys and values change places in time.

    X_t <- X_p(t)        for X of Q, K, V; all of them: outputs are moved likewise; queries alone: the same content, reordered

Source:  MotionCLR, arXiv 2410.18977, sec. 4.2: shift in time, halves exchanged at the first four of ten steps (order=(1, 0));
         example-based generation, queries of stretches of 20 frames shuffled at the sixth (of=("queries",)).
Names:   our `order` names for each stretch of the new clip the old one, all of them as long as can be; `strength` mixes.
Cost:    a copy of what is moved; attention itself stays the fast one.
Differs: in models that attend to all places of all frames at once, whole frames are moved.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from attime.control.call import Call
from attime.control.contract import Control, Traits
from attime.errors import AttimeError

__all__ = ["FrameOrder"]

Heads = Float[Tensor, "batch heads time head_dim"]
Of = Literal["queries", "keys", "values"]
OF: tuple[Of, ...] = ("queries", "keys", "values")


@final
@dataclass(frozen=True, kw_only=True)
class FrameOrder(Control):
    """Stretches of a clip exchanged inside attention over time (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(kinds=("temporal", "joint"), layout=True)
    order: tuple[int, ...] = (1, 0)
    of: tuple[Of, ...] = OF

    def __post_init__(self) -> None:
        if sorted(self.order) != list(range(len(self.order))) or len(self.order) < 2:
            raise AttimeError(f"FrameOrder needs an order of two or more stretches, each once; got {self.order}.")
        if not self.of or not 0 <= self.strength <= 1:
            raise AttimeError(
                f"FrameOrder moves {', '.join(OF)} with a strength from 0 to 1; got of={self.of}, strength={self.strength}."
            )

    def heads(self, call: Call) -> tuple[Heads, Heads, Heads]:
        given = {"queries": call.q, "keys": call.k, "values": call.v}
        if self.strength == 0 or call.layout is None:
            return call.q, call.k, call.v
        layout = call.layout
        if layout.frames < len(self.order):
            raise AttimeError(
                f"FrameOrder has {len(self.order)} stretches, and {call.site.name} sees {layout.frames} frames: name fewer."
            )
        frame = torch.cat([torch.arange(layout.frames).tensor_split(len(self.order))[number] for number in self.order])
        place = torch.arange(layout.places)
        inside = (frame[:, None] * layout.places + place).flatten() + layout.start
        for name in self.of:
            now = given[name]
            token = torch.arange(now.shape[2])
            token[layout.start : layout.stop] = inside
            given[name] = torch.lerp(now, now[:, :, token.to(now.device)], self.strength)
        return given["queries"], given["keys"], given["values"]

    @classmethod
    def examples(cls) -> Sequence["FrameOrder"]:
        return [cls(), cls(order=(2, 0, 1), of=("queries",), strength=0.5, steps=range(1))]
