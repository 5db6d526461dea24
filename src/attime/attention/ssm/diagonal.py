r"""Diagonal state-space layer: a few damped oscillators that all channels drive and read.

    s_t = exp(h l) s_{t-1} + (exp(h l) - 1) / l * B x_t        y_t = Re(C s_t) + D x_t        l = -decay + i frequency

Source:  S5, arXiv 2208.04933, sec. 3 (one system for all channels, zero-order hold, parallel scan); frequencies pi n and
         decay 1/2: S4D-Lin, arXiv 2206.11893, sec. 4; real rates -(n + 1): S4D-Real, same.
Names:   our `slots` is their P; a complex slot counts once and stands for a conjugate pair.
Cost:    time O(T slots) and two matrix products; state `slots` numbers, or twice as many if they oscillate.
Differs: no bidirectional form; GELU and a linear map follow, as in S4, where S5 has a gate.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from attime.attention.contract import Cost, Mixer, Traits
from attime.attention.kernels.scan import scan, scan_naive
from attime.attention.state import State, state_dtype
from attime.errors import AttimeError

__all__ = ["Diagonal"]


@dataclass(frozen=True)
class DiagonalState(State):
    """Each slot's number; real and imaginary part if it is complex."""

    memory: Float[Tensor, "batch slots parts"]


@final
class Diagonal(Mixer):
    """Diagonal state-space layer (see the module docstring).

    Slots that are not `oscillating` are real: plain decays of different speed.
    """

    traits: ClassVar[Traits] = Traits(bounded=True)

    def __init__(self, dim: int, *, slots: int = 64, oscillating: bool = True) -> None:
        super().__init__()
        if slots < 1 or dim < 1:
            raise AttimeError(f"Diagonal needs dim >= 1 and slots >= 1; got dim={dim}, slots={slots}.")
        self.dim, self.slots, self.oscillating = dim, slots, oscillating
        order, parts = torch.arange(slots), 2 if oscillating else 1
        self.log_decay = nn.Parameter(torch.full((slots,), 0.5).log() if oscillating else (order + 1.0).log())
        if oscillating:
            self.frequency = nn.Parameter(math.pi * order)
        least, most = math.log(0.001), math.log(0.1)
        self.log_step = nn.Parameter(torch.rand(slots) * (most - least) + least)
        self.write = nn.Linear(dim, parts * slots, bias=False)
        self.read = nn.Linear(parts * slots, dim, bias=False)
        nn.init.normal_(self.write.weight, std=dim**-0.5)
        nn.init.normal_(self.read.weight, std=(parts * slots) ** -0.5)
        self.skip = nn.Parameter(torch.randn(dim))
        self.output = nn.Linear(dim, dim)

    def begin(self, x: Tensor) -> DiagonalState:
        shape = (x.shape[0], self.slots, 2 if self.oscillating else 1)
        return DiagonalState(x.new_zeros(shape, dtype=state_dtype(x.dtype)))

    def mix(self, x: Tensor, state: DiagonalState, valid: Tensor | None) -> tuple[Tensor, DiagonalState]:
        return self._mix(x, state, valid, scan)

    def reference(self, x: Tensor) -> Tensor:
        return self._mix(x, self.begin(x), None, scan_naive)[0]

    def _mix(self, x, state, valid, form):
        wide = state.memory.dtype
        rate = -self.log_decay.to(wide).exp()
        if self.oscillating:
            rate = torch.complex(rate, self.frequency.to(wide))
        decay = (self.log_step.to(wide).exp() * rate).exp()
        driven = _numbers(self.write(x).to(wide).unflatten(-1, (self.slots, -1))) * ((decay - 1) / rate)
        if valid is not None:
            decay, driven = torch.where(valid[..., None], decay, 1), driven * valid[..., None]
        else:
            decay = decay[None, None]
        states, memory = form(decay, driven, _numbers(state.memory))
        y = self.read(_parts(states).flatten(2).to(x.dtype)) + self.skip * x
        return self.output(F.gelu(y)), DiagonalState(_parts(memory))

    def cost(self, length: int, dtype: torch.dtype = torch.float32) -> Cost:
        held = self.slots * (2 if self.oscillating else 1)
        size = held * state_dtype(dtype).itemsize
        return Cost(operations=4 * held * self.dim + 4 * held, state_bytes=size, read_bytes=size)

    @classmethod
    def examples(cls) -> Sequence["Diagonal"]:
        return [cls(8, slots=6), cls(6, slots=5, oscillating=False)]


def _numbers(parts: Tensor) -> Tensor:
    return torch.view_as_complex(parts.contiguous()) if parts.shape[-1] == 2 else parts.squeeze(-1)


def _parts(numbers: Tensor) -> Tensor:
    return torch.view_as_real(numbers) if numbers.is_complex() else numbers[..., None]
