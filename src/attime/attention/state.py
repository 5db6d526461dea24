"""State as a value: what a mixer carries from one chunk of time to the next."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

from attime.errors import AttimeError

__all__ = ["State", "state_dtype"]

S = TypeVar("S", bound="State")


@dataclass(frozen=True)
class State:
    """Base of all states: a frozen dataclass of tensors with the batch axis first, other states, or tuples of these.

    A state is never changed in place by its mixer: keep it, branch from it, feed it again. Gradients flow
    through it; `detach()` cuts them (truncated back-propagation through time).
    """

    def map(self: S, change: Callable[[Tensor], Tensor]) -> S:
        """The same state with `change` applied to every tensor in it."""
        return replace(self, **{field.name: _map(getattr(self, field.name), change) for field in fields(self)})

    def tensors(self) -> list[Tensor]:
        """Every tensor in the state, depth first."""
        found: list[Tensor] = []
        self.map(lambda tensor: found.append(tensor) or tensor)
        return found

    def detach(self: S) -> S:
        """The same numbers without their gradient history."""
        return self.map(Tensor.detach)

    def to(self: S, *args: Any, **kwargs: Any) -> S:
        """Move every tensor to a device; a dtype applies to floating-point tensors only."""

        def move(tensor: Tensor) -> Tensor:
            moved = tensor.to(*args, **kwargs)
            return moved if tensor.is_floating_point() else moved.to(tensor.dtype)

        return self.map(move)

    def select(self: S, rows: Int[Tensor, " chosen"]) -> S:
        """The rows of the batch named by `rows`, in that order: for beam search and for batches that finish early."""
        return self.map(lambda tensor: tensor.index_select(0, rows.to(tensor.device)))

    @property
    def nbytes(self) -> int:
        """Bytes that the state's tensors occupy."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors())

    @property
    def batch(self) -> int:
        """Rows in the batch."""
        sizes = {tensor.shape[0] for tensor in self.tensors()}
        if len(sizes) != 1:
            raise AttimeError(f"{type(self).__name__} holds tensors of different batch sizes: {sorted(sizes)}.")
        return sizes.pop()


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums over the past for inputs of `dtype`: float32 at least, since bfloat16 soon stops counting."""
    return torch.promote_types(dtype, torch.float32)


def _map(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, State):
        return value.map(change)
    if isinstance(value, tuple):
        return tuple(_map(each, change) for each in value)
    return change(value) if isinstance(value, torch.Tensor) else value
