"""Room control: training-free steering of attention, as pure functions on scores, maps, heads and outputs."""

from attime.control.contract import Call, Control, Layout, Traits

__all__ = ["Call", "Control", "Layout", "Traits"]
