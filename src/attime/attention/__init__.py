"""Trainable mixers: one contract (`mixer(x, state) -> (y, state)`), five kernels, families of leaves."""

from attime.attention.contract import Cost, Mixer, Traits
from attime.attention.state import State

__all__ = ["Cost", "Mixer", "State", "Traits"]
