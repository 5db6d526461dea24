"""How a layer turns its keys with their positions, and how a key is turned onwards by any number of them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal, final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from attime.errors import AttimeError

__all__ = ["Rotary", "Turn", "Way"]

Way = Literal["halves", "pairs", "nothing", "unknown"]
"""Dimension i turns with i + half of those that turn, or 2i with 2i + 1; a key is the same wherever it stands; who knows."""


class Turn(ABC):
    """A turn by positions that are settled."""

    nbytes: int = 0
    """Bytes held."""

    @abstractmethod
    def __call__(self, keys: Float[Tensor, "*#entries head_dim"]) -> Float[Tensor, "*entries head_dim"]:
        """Keys turned onwards by so much."""


@final
@dataclass(frozen=True, eq=False)
class Rotary:
    """The rotary embedding of one layer."""

    frequencies: Float[Tensor, " half"]
    """Angle per position of every pair of dimensions; dimensions beyond them do not turn."""
    way: Way = "halves"
    _last: dict[tuple[int, torch.dtype, bool], Turn] = field(default_factory=dict, init=False, repr=False)
    """The last turn by a whole number: layers that share this one ask for the same, one after another."""

    def __deepcopy__(self, memo: object) -> "Rotary":
        """Copies of a past share it: it is the model's."""
        return self

    def __call__(
        self, keys: Float[Tensor, "lanes entries head_dim"], shift: Shaped[Tensor, "#lanes #entries"]
    ) -> Float[Tensor, "lanes entries head_dim"]:
        """Keys turned onwards by so many positions."""
        return self.by(shift, keys.dtype)(keys)

    def by(self, shift: Shaped[Tensor, "*entries"] | int, dtype: torch.dtype) -> Turn:
        """The turn by so many positions, of keys of this dtype; AttimeError if the way is not known."""
        if isinstance(shift, int):
            which = shift, dtype, torch.is_inference_mode_enabled()
            found = self._last.get(which)
            if found is None:
                found = self.by(torch.full((1, 1), shift, device=self.frequencies.device), dtype)
                self._last.clear()
                self._last[which] = found
            return found
        if self.way == "unknown":
            raise AttimeError(
                "the policy moves keys along rotary positions, and this model turns them in a way that attime does not know: "
                "leave out Contiguous, and set contiguous=False where a policy has it."
            )
        if self.way == "nothing":
            return _Nothing()
        angle = shift.double()[..., None] * self.frequencies.double()
        return TURNS[self.way](angle.cos().to(dtype), angle.sin().to(dtype))


class _Nothing(Turn):
    def __call__(self, keys: Tensor) -> Tensor:
        return keys


class _Halves(Turn):
    def __init__(self, cos: Tensor, sin: Tensor) -> None:
        self.half, self.cos, self.sin = cos.shape[-1], torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)
        self.nbytes = self.cos.nbytes + self.sin.nbytes

    def __call__(self, keys: Tensor) -> Tensor:
        if keys.shape[-1] == 2 * self.half:
            return torch.addcmul(keys * self.cos, keys.roll(self.half, -1), self.sin)
        return _with_rest(self(keys[..., : 2 * self.half]), keys)


class _Pairs(Turn):
    def __init__(self, cos: Tensor, sin: Tensor) -> None:
        self.cos, self.sin = cos, sin
        self.nbytes = cos.nbytes + sin.nbytes

    def __call__(self, keys: Tensor) -> Tensor:
        turning = keys[..., : 2 * self.cos.shape[-1]]
        one, two = turning[..., ::2], turning[..., 1::2]
        turned = torch.stack([one * self.cos - two * self.sin, two * self.cos + one * self.sin], dim=-1)
        return _with_rest(turned.flatten(-2), keys)


def _with_rest(turned: Tensor, keys: Tensor) -> Tensor:
    """And the dimensions that do not turn."""
    rest = keys[..., turned.shape[-1] :]
    return torch.cat([turned, rest.expand(*turned.shape[:-1], -1)], dim=-1) if rest.shape[-1] else turned


TURNS = {"halves": _Halves, "pairs": _Pairs}
