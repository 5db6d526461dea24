"""Groups of tokens, laid out anew by half a group in some heads, so that neighbours in different groups meet there."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from attime.attention.spans.span import Range, Span, Tile
from attime.errors import AttimeError

__all__ = ["Groups"]


@final
@dataclass(frozen=True)
class Groups(Span):
    """Tokens of the same group of `size`; the last `shifted` of `count` heads start with half a group. `& Causal()` for a decoder.

    With `| Sinks(4)` inside that it is SF-Attn of SinkLoRA, arXiv 2406.05678: S2-Attn of LongLoRA, arXiv 2309.12307, whose
    shifted groups do not join the end of the text to its beginning.
    """

    count: int
    """Heads."""
    size: int
    shifted: int | None = None
    """None: half of the heads."""

    def __post_init__(self) -> None:
        if self.count < 1 or self.size < 2 or (self.shifted is not None and not 0 <= self.shifted <= self.count):
            raise AttimeError(f"Groups needs count >= 1, size >= 2 and 0 <= shifted <= count or None; got {self}.")

    @property
    def heads(self) -> int:
        return self.count

    def _number(self, position: Tensor, head: Tensor | None) -> Tensor:
        if head is None:
            raise AttimeError("Groups differs between heads: pass head=.")
        shifted = self.count // 2 if self.shifted is None else self.shifted
        return (position + torch.where(head >= self.count - shifted, self.size // 2, 0)) // self.size

    def allows(self, query: Tensor, key: Tensor, head: Tensor | None = None) -> Tensor:
        return self._number(query, head) == self._number(key, head)

    def tile(self, query: Range, key: Range, head: Tensor | None = None) -> Tile:
        (q_low, q_high), (k_low, k_high) = ([self._number(at, head) for at in each] for each in (query, key))
        return Tile((q_low <= k_high) & (k_low <= q_high), (q_low == q_high) & (k_low == k_high) & (q_low == k_low))

    def needed(self, key: Tensor, now: Tensor | int, head: Tensor | None = None) -> Tensor:
        return self._number(key, head) >= self._number(torch.as_tensor(now), head)
