"""Room control: training-free steering of attention, as pure functions on scores, maps, heads and outputs."""

from attime.control.call import Call, Layout
from attime.control.contract import Control, Traits

__all__ = ["Call", "Control", "Layout", "Traits"]
