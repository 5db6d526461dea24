r"""Linear state-space layer: each channel remembers its past as coefficients of Legendre polynomials (HiPPO-LegS).

    s' = A s + B x,  y = C s + D x                                          continuous time, one system per channel
    s_t = (I - a h A)^-1 ((I + (1 - a) h A) s_{t-1} + h B x_t)              generalised bilinear, step h, a = 1/2
    A_nk = -sqrt((2n+1)(2k+1)) for n > k, -(n+1) for n = k, 0 for n < k     B_n = sqrt(2n+1)

Source:  LSSL, arXiv 2110.13985, sec. 2 (discretisation), sec. 3.1 (three views), sec. 4.2 and app. E (trainable A);
         A and B: HiPPO, arXiv 2008.07669, thm. 2.
Names:   our `slots` is their N, `step` their Delta t; the trainable A is -left (spread + T^-1) right with T tridiagonal
         (their quasi-separable P (D + T^-1) Q).
Cost:    time O(log block) FFT per token plus O(slots^3 + slots^2 block) per call: feed it tens of
         tokens at a time where you can. State `slots` per channel.
Differs: one output per channel (their M = 1); matrices are dense, solved anew in each call. Step sizes are learned with A.
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
from attime.attention.kernels.scan import convolve
from attime.attention.state import State, state_dtype
from attime.errors import AttimeError

__all__ = ["LSSL"]

BLOCK = 256  # a machine constant: tokens in one FFT


@dataclass(frozen=True)
class LSSLState(State):
    """Coefficients of each channel's past."""

    memory: Float[Tensor, "batch dim slots"]


@final
class LSSL(Mixer):
    """Dense linear state-space layer, then GELU and a linear map over channels (see the module docstring).

    Data at another rate: add the log of (old rate / new rate) to `log_step`.
    """

    traits: ClassVar[Traits] = Traits(bounded=True)
    log_step: Tensor
    left: Tensor
    right: Tensor
    spread: Tensor
    middle: Tensor
    below: Tensor
    above: Tensor
    write: Tensor

    def __init__(self, dim: int, *, slots: int = 64, alpha: float = 0.5, learn_dynamics: bool = True) -> None:
        super().__init__()
        if slots < 2 or not 0 <= alpha <= 1:
            raise AttimeError(f"LSSL needs slots >= 2 and 0 <= alpha <= 1; got slots={slots}, alpha={alpha}.")
        self.dim, self.slots, self.alpha = dim, slots, alpha
        order = torch.arange(slots)
        root = (2 * order + 1).sqrt()
        span = torch.tensor([0.001, 0.1]).log()  # smallest and greatest step, sec. 5
        dynamics = {
            "log_step": torch.rand(dim) * (span[1] - span[0]) + span[0],
            "left": root,
            "right": root.clone(),
            "spread": -order / (2 * order + 1),
            "middle": torch.ones(slots),
            "below": -torch.ones(slots - 1),
            "above": torch.zeros(slots - 1),
        }
        for name, value in dynamics.items():
            self.register_parameter(name, nn.Parameter(value)) if learn_dynamics else self.register_buffer(name, value)
        self.register_buffer("write", root.clone())
        self.read = nn.Parameter(torch.randn(dim, slots))
        self.skip = nn.Parameter(torch.randn(dim))
        self.output = nn.Linear(dim, dim)

    def begin(self, x: Tensor) -> LSSLState:
        return LSSLState(x.new_zeros(x.shape[0], self.dim, self.slots, dtype=state_dtype(x.dtype)))

    def mix(self, x: Tensor, state: LSSLState, valid: Tensor | None) -> tuple[Tensor, LSSLState]:
        wide = state.memory.dtype
        with torch.autocast(x.device.type, enabled=False):  # FFT and solve know no bfloat16
            clip, read = x.to(wide), self.read.to(wide)
            if x.shape[1] == 1 and valid is None:
                y, memory = self._one(clip[:, 0], state.memory, read)
            else:
                block = min(x.shape[1], BLOCK)
                change, enter = self._discrete(wide)
                powers = [change]
                while len(powers) < block.bit_length():
                    powers.append(powers[-1] @ powers[-1])
                written = _orbit(powers, enter, block)
                seen = _orbit([each.mT for each in powers], (change.mT @ read[..., None]).squeeze(-1), block)
                kernel = torch.einsum("dtn,dn->dt", written, read)
                y, memory = convolve(clip, kernel, seen, written, _Advance(powers), state.memory, valid)
            y = y + clip * self.skip.to(wide)
        return self.output(F.gelu(y.to(x.dtype))), LSSLState(memory)

    def reference(self, x: Tensor) -> Tensor:
        change, enter = self._discrete(x.dtype)
        memory, outputs = x.new_zeros(x.shape[0], self.dim, self.slots), []
        for x_t in x.unbind(1):
            memory = torch.einsum("dnm,bdm->bdn", change, memory) + enter * x_t[..., None]
            outputs.append((memory * self.read).sum(-1) + self.skip * x_t)
        return self.output(F.gelu(torch.stack(outputs, dim=1)))

    def cost(self, length: int, dtype: torch.dtype = torch.float32) -> Cost:
        held = self.dim * self.slots
        size = held * state_dtype(dtype).itemsize
        solve = self.dim * (2 * self.slots**3 // 3 + 2 * self.slots**2)  # shared by the tokens of one call
        return Cost(operations=solve + 2 * held * self.slots + 4 * held, state_bytes=size, read_bytes=size)

    @classmethod
    def examples(cls) -> Sequence["LSSL"]:
        return [cls(8, slots=6), cls(6, slots=5, alpha=1.0, learn_dynamics=False)]

    def dynamics(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "slots slots"]:
        """The matrix A of continuous time."""
        middle, below, above = (each.to(dtype) for each in (self.middle, self.below, self.above))
        inverse = torch.linalg.inv(middle.diag() + below.diag(-1) + above.diag(1))
        return -self.left.to(dtype)[:, None] * (self.spread.to(dtype).diag() + inverse) * self.right.to(dtype)

    def _discrete(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Per channel the matrix that takes the memory one token on, and the vector that a token is written along."""
        step = self.log_step.to(dtype).exp()[:, None, None]
        move, eye = step * self.dynamics(dtype), torch.eye(self.slots, dtype=dtype, device=step.device)
        right = torch.cat([eye + (1 - self.alpha) * move, step * self.write.to(dtype)[:, None]], dim=-1)
        change = torch.linalg.solve(eye - self.alpha * move, right)
        return change[..., :-1], change[..., -1]

    def _one(self, x: Tensor, memory: Tensor, read: Tensor) -> tuple[Tensor, Tensor]:
        """One token: a solve for the new memory alone."""
        step = self.log_step.to(x.dtype).exp()[:, None]
        matrix = self.dynamics(x.dtype)
        right = memory + (1 - self.alpha) * step * (memory @ matrix.mT) + step * self.write.to(x.dtype) * x[..., None]
        eye = torch.eye(self.slots, dtype=x.dtype, device=x.device)
        memory = torch.linalg.solve(eye - self.alpha * step[..., None] * matrix, right.permute(1, 2, 0)).permute(
            2, 0, 1
        )
        return (memory * read).sum(-1)[:, None], memory


class _Advance:
    """A^n applied to a memory, bit by bit of n, which may differ by row."""

    def __init__(self, powers: list[Tensor]) -> None:
        self.powers = powers

    def __call__(self, memory: Tensor, tokens: int | Tensor) -> Tensor:
        for bit, power in enumerate(self.powers):
            if isinstance(tokens, int) and not tokens >> bit & 1:
                continue
            moved = torch.einsum("dnm,bdm->bdn", power, memory)
            memory = (
                moved if isinstance(tokens, int) else moved.where((tokens >> bit & 1).bool()[:, None, None], memory)
            )
        return memory


def _orbit(powers: list[Tensor], vector: Tensor, length: int) -> Tensor:
    """v, A v, A^2 v, ... of each channel (dim length slots), doubling with the powers A, A^2, A^4, ..."""
    orbit = vector[:, None]
    for power in powers[: math.ceil(math.log2(length)) if length > 1 else 0]:
        orbit = torch.cat([orbit, orbit @ power.mT], dim=1)
    return orbit[:, :length]
