"""The laws bite: each seeded fault is caught by the law that is there for it, and the sound twin passes them all."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from attime.attention.contract import Cost, Mixer, Traits
from attime.attention.state import State
from attime.laws.attention import LAWS

LAW = {law.name: law for law in LAWS}


@dataclass(frozen=True)
class Recent(State):
    """The last inputs and how many tokens were seen."""

    inputs: Tensor
    seen: Tensor


class Mean(Mixer):
    """A decayed mean of the last `window` inputs, through two weights: small, and with everything a mixer needs."""

    traits: ClassVar[Traits] = Traits(bounded=True)
    window: ClassVar[int] = 4

    def __init__(self, dim: int = 6) -> None:
        super().__init__()
        self.dim = dim
        self.inner, self.output = nn.Linear(dim, dim), nn.Linear(dim, dim, bias=False)

    def begin(self, x: Tensor) -> Recent:
        return Recent(x.new_zeros(len(x), self.window - 1, self.dim), torch.zeros(len(x), dtype=torch.long))

    def weigh(self, age: int) -> float:
        return 0.5**age

    def mix(self, x: Tensor, state: Recent, valid: Tensor | None) -> tuple[Tensor, Recent]:
        h = self.inner(x)
        if valid is not None:
            h = h * valid[..., None]
        past = torch.cat([state.inputs.to(h.dtype), h], dim=1)
        y = torch.stack([past[:, age : age + x.shape[1]] for age in range(self.window)], dim=-1)
        y = y @ torch.tensor([self.weigh(age) for age in reversed(range(self.window))], dtype=h.dtype)
        count = torch.full((len(x),), x.shape[1]) if valid is None else valid.sum(1)
        kept = count[:, None] + torch.arange(self.window - 1)
        inputs = past.gather(1, kept[..., None].expand(-1, -1, self.dim))
        return self.output(y), Recent(inputs, state.seen + count)

    def reference(self, x: Tensor) -> Tensor:
        h, rows = self.inner(x), []
        for t in range(x.shape[1]):
            rows.append(torch.stack([0.5**age * h[:, t - age] for age in range(min(self.window, t + 1))]).sum(0))
        return self.output(torch.stack(rows, dim=1))

    def cost(self, length: int, dtype: torch.dtype = torch.float32) -> Cost:
        size = (self.window - 1) * self.dim * dtype.itemsize + 8
        return Cost(operations=2 * self.window * self.dim, state_bytes=size, read_bytes=size)

    @classmethod
    def examples(cls) -> Sequence["Mean"]:
        return [cls()]


class WindowOffByOne(Mean):
    window: ClassVar[int] = 5

    def reference(self, x):
        h = self.inner(x)
        return self.output(
            torch.stack(
                [torch.stack([0.5**a * h[:, t - a] for a in range(min(4, t + 1))]).sum(0) for t in range(x.shape[1])], 1
            )
        )


class WrongDecay(Mean):
    def weigh(self, age):
        return 0.6**age


class SeesTheFuture(Mean):
    def mix(self, x, state, valid):
        y, after = super().mix(x, state, valid)
        return y + 0.01 * x.flip(1).cumsum(1).flip(1), after


class NormalisesOverTheChunk(Mean):
    def mix(self, x, state, valid):
        y, after = super().mix(x, state, valid)
        return y / (1 + y.detach().abs().amax(dim=1, keepdim=True)), after


class GrowingState(Mean):
    def mix(self, x, state, valid):
        y, after = super().mix(x, state, valid)
        return y, Recent(
            torch.cat([state.inputs, after.inputs], dim=1)[:, -max(3, 3 + state.inputs.shape[1]) :], after.seen
        )


class DeadWeight(Mean):
    def __init__(self, dim=6):
        super().__init__(dim)
        self.unused = nn.Parameter(torch.ones(dim))


class IgnoresPadding(Mean):
    def mix(self, x, state, valid):
        return super().mix(x + 1.0, state, None)


class MixesTheBatch(Mean):
    def mix(self, x, state, valid):
        y, after = super().mix(x, state, valid)
        return y + 0.01 * y.mean(dim=0, keepdim=True), after


class WrongAxis(Mean):
    def mix(self, x, state, valid):
        y, after = super().mix(x, state, valid)
        return y + self.inner(x).cumsum(dim=2), after


class ForgetsTheState(Mean):
    def mix(self, x, state, valid):
        return super().mix(x, self.begin(x), valid)


class WritesIntoTheState(Mean):
    def mix(self, x, state, valid):
        y, after = super().mix(x, state, valid)
        state.inputs.mul_(0.9)
        return y, after


class AlwaysDouble(Mean):
    def mix(self, x, state, valid):
        y, after = super().mix(x, state, valid)
        return y.double(), after


class LiesAboutItsCost(Mean):
    def cost(self, length, dtype=torch.float32):
        return Cost(operations=1, state_bytes=8, read_bytes=8)


class Overflows(Mean):
    def mix(self, x, state, valid):
        y, after = super().mix(x, state, valid)
        return y * torch.exp(x.pow(2).sum(-1, keepdim=True)).clamp_min(1), after


class NeedsTwoTokens(Mean):
    def mix(self, x, state, valid):
        y, after = super().mix(x, state, valid)
        return y / y.var(dim=1, correction=0, keepdim=True).detach().sqrt(), after


class DropsItsLastToken(Mean):
    def mix(self, x, state, valid):
        y, after = super().mix(x, state, valid)
        return torch.cat([y.new_zeros(len(y), 1, self.dim), y[:, :-1]], dim=1), after


class CutsTheGradient(Mean):
    def mix(self, x, state, valid):
        return super().mix(x, state.detach(), valid)


FAULTS = {
    WindowOffByOne: "fast_is_reference",
    WrongDecay: "fast_is_reference",
    WrongAxis: "fast_is_reference",
    SeesTheFuture: "past_ignores_future",
    NormalisesOverTheChunk: "any_chunking_agrees",
    ForgetsTheState: "any_chunking_agrees",
    CutsTheGradient: "any_chunking_agrees",
    GrowingState: "bounded_state_stays_bounded",
    DeadWeight: "every_weight_learns",
    IgnoresPadding: "padding_is_ignored",
    MixesTheBatch: "rows_are_independent",
    WritesIntoTheState: "state_is_a_value",
    AlwaysDouble: "dtype_is_kept",
    LiesAboutItsCost: "cost_is_as_stated",
    Overflows: "large_inputs_stay_finite",
    NeedsTwoTokens: "length_one_works",
    DropsItsLastToken: "last_token_is_seen",
}


@pytest.mark.parametrize("law", [law for law in LAWS if law.name != "compiles"], ids=lambda law: law.name)
def test_the_sound_mixer_passes(law) -> None:
    assert law.applies(Mean())
    law.run(Mean())


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_fault_is_caught(fault) -> None:
    with pytest.raises((AssertionError, RuntimeError)):
        LAW[FAULTS[fault]].run(fault())


def test_every_law_has_a_fault() -> None:
    assert set(FAULTS.values()) | {"compiles"} == set(LAW)
