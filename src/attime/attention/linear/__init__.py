"""Linear attention: a matrix of fixed size is all that is kept of the past."""

from attime.attention.linear.decay import Decay
from attime.attention.linear.delta import GatedDelta
from attime.attention.linear.flow import Flow
from attime.attention.linear.flow_bidirectional import FlowBidirectional
from attime.attention.linear.lightnet import LightNet
from attime.attention.linear.lightnet_grid import LightNetGrid
from attime.attention.linear.memories import MixtureOfMemories
from attime.attention.linear.prefix import PrefixLinear
from attime.attention.linear.taylor import Taylor

__all__ = [
    "Decay",
    "Flow",
    "FlowBidirectional",
    "GatedDelta",
    "LightNet",
    "LightNetGrid",
    "MixtureOfMemories",
    "PrefixLinear",
    "Taylor",
]
