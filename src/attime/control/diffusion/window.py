r"""Each token of a frame looks at those of its own window; windows are moved about from step to step.

    q, k, v of a frame (H, W) -> rolled -> cut into windows (H / n, W / m) -> attention in each -> put together, rolled back

Source:  HiDiffusion, arXiv 2311.17528, sec. 3.3 (modified shifted-window self-attention, at the highest resolution of a U-Net).
Names:   our `windows` are n lines and m columns of windows, 2 by 2 in the paper; `shifts` the shares of a window by which
         windows may be moved; `seed` draws them.
Cost:    scores for H W / (n m) keys per query in place of H W.
Differs: the share is drawn from seed, layer and step, so that a clip can be painted again. Choose the sites of the highest
         resolution by `where` (`named("down_blocks.0") | named("up_blocks.3")` in a U-Net of four levels). The other half of the
         paper is `attime.hub.coarse`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from attime.control.call import Call, Layout
from attime.control.contract import Control, Traits
from attime.errors import AttimeError

__all__ = ["Windows"]

Heads = Float[Tensor, "batch heads time head_dim"]


@final
@dataclass(frozen=True, kw_only=True)
class Windows(Control):
    """Attention over places inside shifted windows (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(kinds=("spatial",), layout=True)
    waived = {
        "hidden_keys_stay_hidden": "attention with a mask is refused by an error: denoisers have none over places"
    }
    windows: tuple[int, int] = (2, 2)
    shifts: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.strength not in (0, 1):
            raise AttimeError(
                f"Windows is on (strength 1) or off (0), there is no between; got strength={self.strength}."
            )
        if min(self.windows) < 1 or not self.shifts or not all(0 <= each < 1 for each in self.shifts):
            raise AttimeError(
                f"Windows needs lines and columns of windows >= 1 and shifts from 0 to below 1; got windows={self.windows}, "
                f"shifts={self.shifts}."
            )

    def heads(self, call: Call) -> tuple[Heads, Heads, Heads]:
        if self.strength == 0:
            return call.q, call.k, call.v
        high, wide = self._size(call)
        (n, m), rolled = self.windows, self.shift(call, high, wide)

        def cut(x: Heads) -> Heads:
            grid = torch.roll(x.unflatten(2, (high, wide)), [-each for each in rolled], dims=(2, 3))
            return rearrange(grid, "b heads (n h) (m w) d -> (b n m) heads (h w) d", n=n, m=m)

        return cut(call.q), cut(call.k), cut(call.v)

    def layout(self, call: Call) -> Layout | None:
        if self.strength == 0 or call.layout is None or call.layout.wide is None:
            return call.layout
        (n, m), now = self.windows, call.layout
        return replace(now, places=now.places // (n * m), rows=now.rows * n * m, wide=call.layout.wide // m)

    def outputs(self, out: Heads, call: Call) -> Heads:
        if self.strength == 0 or call.layout is None or call.layout.wide is None:
            return out
        (n, m), wide = self.windows, call.layout.wide
        high = call.layout.places // wide
        grid = rearrange(out, "(b n m) heads (h w) d -> b heads (n h) (m w) d", n=n, m=m, h=high // n)
        return torch.roll(grid, self.shift(call, high, wide), dims=(2, 3)).flatten(2, 3)

    def shift(self, call: Call, high: int, wide: int) -> tuple[int, int]:
        """Lines and columns by which the windows of this call are moved."""
        random = torch.Generator().manual_seed(self.seed + 1009 * call.step + 9176 * call.site.layer)
        share = self.shifts[int(torch.randint(len(self.shifts), (), generator=random))]
        return int(share * high / self.windows[0]), int(share * wide / self.windows[1])

    def _size(self, call: Call) -> tuple[int, int]:
        """Lines of a frame and tokens of a line; AttimeError where windows do not fit."""
        layout, (n, m) = call.layout, self.windows
        tokens = {call.q.shape[2], call.k.shape[2]}
        if call.added is not None or layout is None or layout.wide is None or tokens != {layout.places}:
            raise AttimeError(
                f"Windows needs attention over all places of one frame without a mask; {call.site.name} has "
                f"{'a mask' if call.added is not None else f'{call.q.shape[2]} queries and {call.k.shape[2]} keys'}."
            )
        high, wide = layout.places // layout.wide, layout.wide
        if high % n or wide % m:
            raise AttimeError(
                f"Windows cannot cut the {high} x {wide} places of {call.site.name} into {n} x {m} windows: choose fewer, or "
                f"the sites of higher resolution by where."
            )
        return high, wide

    @classmethod
    def examples(cls) -> Sequence["Windows"]:
        return [cls(), cls(windows=(1, 2), shifts=(0.5,), seed=1, steps=range(1))]
