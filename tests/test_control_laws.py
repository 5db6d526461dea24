"""Every control obeys the laws of its room, and each law bites the fault that it is there for."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from attime.control import Call, Control, Traits
from attime.laws import Law, cases
from attime.laws.control import LAWS
from attime.part import Part

LAW = {law.name: law for law in LAWS}


@pytest.mark.parametrize(("part", "law"), cases("control"))
def test_law(part: Part, law: Law) -> None:
    law.run(part)


@dataclass(frozen=True, kw_only=True)
class Sound(Control):
    """Maps on the way to what each query sees, evenly."""

    traits = Traits(kinds=("temporal",))

    def maps(self, maps: Tensor, call: Call) -> Tensor:
        seen = (maps > 0).to(maps.dtype)
        return maps + self.strength * (seen / seen.sum(-1, keepdim=True) - maps)

    @classmethod
    def examples(cls):
        return [cls(), cls(strength=0.5)]


class NotStill(Sound):
    def maps(self, maps, call):
        return maps + (self.strength + 0.1) * (torch.full_like(maps, 1 / maps.shape[-1]) - maps)


class Idle(Sound):
    def maps(self, maps, call):
        return maps.clone()


class Heavy(Sound):
    def maps(self, maps, call):
        return maps * (1 + self.strength)


class Rough(Sound):
    def maps(self, maps, call):
        maps[..., 0] *= 1 - self.strength
        return maps / maps.sum(-1, keepdim=True).clamp(min=1e-9)


class Moody(Sound):
    def maps(self, maps, call):
        if self.strength == 0:
            return maps
        noise = torch.rand_like(maps) * maps
        return noise / noise.sum(-1, keepdim=True)


class Peeking(Sound):
    def maps(self, maps, call):
        return maps + self.strength * (torch.full_like(maps, 1 / maps.shape[-1]) - maps)


FAULTS = {
    "strength_zero_is_the_identity": NotStill,
    "it_does_something": Idle,
    "rows_sum_to_one": Heavy,
    "arguments_are_left_alone": Rough,
    "calls_repeat": Moody,
    "hidden_keys_stay_hidden": Peeking,
}


def test_every_law_has_its_fault():
    assert set(FAULTS) == set(LAW)


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_caught(name):
    for part in FAULTS[name].examples():
        with pytest.raises(AssertionError):
            LAW[name].run(part)


@pytest.mark.parametrize("name", LAW)
def test_the_sound_one_passes(name):
    for part in Sound.examples():
        LAW[name].run(part)
