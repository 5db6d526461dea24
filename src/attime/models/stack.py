"""Blocks of a mixer and a channel mixer, stacked: the one backbone in which mixers are compared."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from attime.attention.contract import Mixer
from attime.attention.short_conv import short_conv
from attime.attention.state import State
from attime.errors import AttimeError

__all__ = ["Block", "Stack", "hidden_for"]

WIDTH = 4  # tokens that the short convolution before every mixer sees


@dataclass(frozen=True)
class BlockState(State):
    """The last inputs of the short convolution, and the mixer's own state."""

    past: Float[Tensor, "batch before dim"]
    mixer: State


@dataclass(frozen=True)
class StackState(State):
    """One state per block."""

    blocks: tuple[BlockState, ...]


class Block(nn.Module):
    """x + mixer(norm(x)), then x + SwiGLU(norm(x)).

    Every mixer gets a causal short convolution of its input, so that none is set back by the lack of one.
    `hidden` is the width of the channel mixer.
    """

    def __init__(self, mixer: Mixer, *, hidden: int) -> None:
        super().__init__()
        dim = mixer.dim
        self.mixer = mixer
        self.shift = nn.Parameter(torch.cat([torch.zeros(dim, WIDTH - 1), torch.ones(dim, 1)], dim=1))
        self.before, self.between = nn.RMSNorm(dim), nn.RMSNorm(dim)
        self.widen = nn.Linear(dim, 2 * hidden, bias=False)
        self.narrow = nn.Linear(hidden, dim, bias=False)
        nn.init.zeros_(self.narrow.weight)

    def forward(
        self, x: Float[Tensor, "batch time dim"], state: BlockState | None = None, *, valid: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch time dim"], BlockState]:
        """Mix one chunk along time, then along channels."""
        past = x.new_zeros(x.shape[0], WIDTH - 1, x.shape[2]) if state is None else state.past
        mixed, past = short_conv(self.before(x), self.shift, past, valid)
        mixed, inner = self.mixer(
            mixed, None if state is None else state.mixer, **({} if valid is None else {"valid": valid})
        )
        x = x + mixed
        gate, value = self.widen(self.between(x)).chunk(2, dim=-1)
        return x + self.narrow(F.silu(gate) * value), BlockState(past, inner)


@final
class Stack(nn.Module):
    """Blocks one after the other, with a final norm; streams with one state per block."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        super().__init__()
        if not blocks:
            raise AttimeError("Stack needs at least one block; got none.")
        still = [
            type(block.mixer).__name__ for block in blocks if not block.mixer.traits.causal or block.mixer.traits.grid
        ]
        if still:
            raise AttimeError(
                f"Stack streams along time and needs causal mixers over (batch time dim); {still[0]} is not one."
            )
        self.blocks = nn.ModuleList(blocks)
        self.dim = blocks[0].mixer.dim
        self.after = nn.RMSNorm(self.dim)

    @classmethod
    def of(cls, make: Callable[[int, int], Mixer], *, layers: int, hidden: int) -> "Stack":
        """A stack of `layers` blocks around the mixers `make(layer, layers)`."""
        return cls([Block(make(layer, layers), hidden=hidden) for layer in range(layers)])

    def forward(
        self,
        x: Float[Tensor, "batch time dim"],
        state: StackState | None = None,
        *,
        valid: Bool[Tensor, "batch time"] | None = None,
    ) -> tuple[Float[Tensor, "batch time dim"], StackState]:
        """One chunk through all blocks; `valid` False marks padding, wherever it stands."""
        order = None
        if valid is not None:  # valid tokens first, as mixers and convolutions want them
            order = (~valid).to(torch.int8).argsort(dim=1, stable=True)
            x, valid = x.gather(1, order[..., None].expand_as(x)), valid.gather(1, order)
            x = x * valid[..., None]
        states = []
        for number, block in enumerate(self.blocks):
            x, after = block(x, None if state is None else state.blocks[number], valid=valid)
            states.append(after)
        x = self.after(x)
        if order is not None:
            x = x.gather(1, order.argsort(dim=1)[..., None].expand_as(x))
        return x, StackState(tuple(states))


def hidden_for(mixer: Mixer, *, budget: int) -> int:
    """The width of the channel mixer that brings a block with this mixer to `budget` parameters, as near as may be."""
    spent = sum(weight.numel() for weight in mixer.parameters()) + (WIDTH + 2) * mixer.dim
    return max(8, round((budget - spent) / (3 * mixer.dim)))
