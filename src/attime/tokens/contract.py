"""What a token part is: a patcher (data to tokens and back), positions (times to codes), a reducer (fewer tokens)."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attime.errors import AttimeError
from attime.part import Part
from attime.shapes import check_axes

__all__ = ["Patcher", "Positions", "Reduced", "Reducer", "Traits"]


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a token part claims; each claim is checked by a law."""

    patches: bool = False
    """A patcher: `unpatch` undoes `patch`."""
    relative: bool = False
    """Positions: inner products of two codes depend on the distance of the places only."""
    reduces: bool = False
    """A reducer: within budget, in order, nothing lost."""
    merges: bool = False
    """A reducer that averages: the mean of the tokens, weighted by mass, stays."""
    keeps: bool = False
    """A reducer that drops: each token it returns is the first of those it stands for, as it was."""


class Patcher(Part):
    """Cuts data into patches of equal sizes, in the order of time, and puts them together again.

    Where the data does not fill the last patch along an axis, its last entry there is repeated; `unpatch` cuts the
    repetition off. Leaves fill in `sizes`, `cut` and `join`, and `strides` where patches overlap.
    """

    traits: ClassVar[Traits] = Traits(patches=True)
    axes: ClassVar[str]
    """The data's axes: batch first, then those that are cut, channels last."""

    @property
    @abstractmethod
    def sizes(self) -> tuple[int, ...]:
        """Entries of one patch along each axis that is cut."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Entries from one patch to the next along each axis; less than the size where patches overlap."""
        return self.sizes

    def counts(self, *lengths: int) -> tuple[int, ...]:
        """How many patches data of these lengths has along each axis that is cut."""
        sizes = self.sizes
        if len(lengths) != len(sizes) or min(lengths) < 1:
            names = ", ".join(self.axes.split()[1:-1])
            raise AttimeError(f"{type(self).__name__} needs the data's lengths ({names}), each >= 1; got {lengths}.")
        return tuple(
            1 + max(0, ceil((length - size) / stride))
            for length, size, stride in zip(lengths, sizes, self.strides, strict=True)
        )

    def patch(self, data: Float[Tensor, "batch *lengths channels"]) -> Float[Tensor, "batch patches dim"]:
        """The patches of the data, each flattened to one token, channels last."""
        check_axes(data, self.axes, who=self)
        for axis, length in enumerate(self._padded(data.shape[1:-1]), 1):
            if length > data.shape[axis]:
                data = data.index_select(axis, torch.arange(length, device=data.device).clamp(max=data.shape[axis] - 1))
        return self.cut(data)

    def unpatch(
        self, tokens: Float[Tensor, "batch patches dim"], *lengths: int
    ) -> Float[Tensor, "batch *lengths channels"]:
        """The data of these lengths that the tokens are patches of."""
        count, volume, name = prod(self.counts(*lengths)), prod(self.sizes), type(self).__name__
        check_axes(tokens, "batch patches dim", who=self)
        if tokens.shape[1] != count:
            raise AttimeError(f"{name} needs {count} patches for data of lengths {lengths}; got {tokens.shape[1]}.")
        if tokens.shape[2] % volume:
            raise AttimeError(f"{name} needs tokens of {volume} entries times channels; got {tokens.shape[2]}.")
        data = self.join(tokens, self._padded(lengths))
        for axis, length in enumerate(lengths, 1):
            data = data.narrow(axis, 0, length)
        return data

    @abstractmethod
    def cut(self, data: Tensor) -> Tensor:
        """Tokens (batch patches dim) of data that fills its patches."""

    @abstractmethod
    def join(self, tokens: Tensor, lengths: Sequence[int]) -> Tensor:
        """The data, of lengths that its patches fill."""

    def _padded(self, lengths: Sequence[int]) -> tuple[int, ...]:
        return tuple(
            (count - 1) * stride + size
            for count, size, stride in zip(self.counts(*lengths), self.sizes, self.strides, strict=True)
        )


class Positions(Part):
    """Codes for places in time, whole numbers or seconds."""

    traits: ClassVar[Traits] = Traits()
    dim: int

    @abstractmethod
    def encode(self, places: Tensor) -> Float[Tensor, "*axes dim"]:
        """A code for each place: float64 for places in float64, float32 for others."""


@dataclass(frozen=True)
class Reduced:
    """Fewer tokens, and what became of every one that went in. A row's tokens come first, unused entries after them."""

    tokens: Float[Tensor, "batch kept dim"]
    mass: Float[Tensor, "batch kept"]
    """How many input tokens each stands for, or the sum of their masses; 0 and a token of zeros where unused."""
    owner: Int[Tensor, "batch time"]
    """For every input token the number of the output token that stands for it; -1 at padding."""

    @property
    def valid(self) -> Bool[Tensor, "batch kept"]:
        """False at unused entries: the padding mask for a mixer."""
        return self.mass > 0


class Reducer(Part):
    """Makes fewer tokens of many, each standing for some of them, in their order. Leaves fill in `shrink`."""

    traits: ClassVar[Traits] = Traits(reduces=True)

    def reduce(
        self,
        x: Float[Tensor, "batch *axes dim"],
        budget: int,
        *,
        valid: Bool[Tensor, "batch time"] | None = None,
        mass: Float[Tensor, "batch time"] | None = None,
    ) -> Reduced:
        """At most `budget` tokens per row.

        `valid` (batch time) is False at padding, wherever it stands. `mass` (batch time) says how much each token
        counts, as when a reduction is reduced again; by default each counts 1.
        """
        check_axes(x, "batch time dim", who=self)
        name = type(self).__name__
        if budget < 1:
            raise AttimeError(f"{name} needs budget >= 1; got {budget}.")
        for option, given in (("valid", valid), ("mass", mass)):
            if given is not None and given.shape != x.shape[:2]:
                raise AttimeError(
                    f"{name} needs {option}= of sizes {tuple(x.shape[:2])} (batch time); got {tuple(given.shape)}."
                )
        rows, time = x.shape[:2]
        valid = torch.ones(rows, time, dtype=torch.bool, device=x.device) if valid is None else valid
        if mass is None:
            mass = valid.to(torch.promote_types(x.dtype, torch.float32))  # counts beyond 256 need more than 8 bits
        elif bool((mass[valid] <= 0).any()):
            raise AttimeError(f"{name} needs mass= above 0 at every valid token; mark the others with valid=.")
        order = (~valid).to(torch.int8).argsort(dim=1, stable=True)  # valid tokens first, in their order
        packed = valid.gather(1, order)
        weight = mass.gather(1, order) * packed
        packed_x = x.gather(1, order[..., None].expand_as(x)).masked_fill(~packed[..., None], 0)
        slots = min(budget, time)
        tokens, owner = self.shrink(packed_x, packed, weight, slots)
        owner = owner.masked_fill(~packed, -1)
        total = weight.new_zeros(rows, slots + 1).scatter_add(1, owner.remainder(slots + 1), weight)[:, :slots]
        return Reduced(tokens * (total > 0)[..., None], total, owner.gather(1, order.argsort(dim=1)))

    @abstractmethod
    def shrink(
        self,
        x: Float[Tensor, "batch time dim"],
        valid: Bool[Tensor, "batch time"],
        mass: Float[Tensor, "batch time"],
        slots: int,
    ) -> tuple[Float[Tensor, "batch slots dim"], Int[Tensor, "batch time"]]:
        """`slots` tokens per row, and for each input token the number of the one that stands for it.

        Each row's valid tokens come first and its padding, of zeros and without mass, after them. What is returned for
        padding, and as a token that stands for nothing, does not matter.
        """
