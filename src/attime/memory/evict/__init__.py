"""Family evict: policies that drop entries for good."""

from attime.memory.evict.adaptive import Adaptive
from attime.memory.evict.bytes import Bytes
from attime.memory.evict.compensate import Compensate
from attime.memory.evict.contract import Action, Budget, Drop, Score
from attime.memory.evict.evict import Evict
from attime.memory.evict.expected import Expected
from attime.memory.evict.key_norm import KeyNorm
from attime.memory.evict.last_query import LastQuery
from attime.memory.evict.observed_window import ObservedWindow
from attime.memory.evict.per_head import PerHead
from attime.memory.evict.per_layer import PerLayer
from attime.memory.evict.pyramid import Pyramid
from attime.memory.evict.random import Random
from attime.memory.evict.received import Received
from attime.memory.evict.recency import Recency
from attime.memory.evict.sink_window import SinkWindow
from attime.memory.evict.uniform import Uniform

__all__ = [
    "Action",
    "Adaptive",
    "Budget",
    "Bytes",
    "Compensate",
    "Drop",
    "Evict",
    "Expected",
    "KeyNorm",
    "LastQuery",
    "ObservedWindow",
    "PerHead",
    "PerLayer",
    "Pyramid",
    "Random",
    "Received",
    "Recency",
    "Score",
    "SinkWindow",
    "Uniform",
]
