"""Family sparse: each token sees some of the others, by a rule or by choice."""

from attime.attention.sparse.causal_neighbourhood import CausalNeighbourhood
from attime.attention.sparse.gated_retrieval import GatedRetrieval
from attime.attention.sparse.hierarchical_chunks import HierarchicalChunks
from attime.attention.sparse.neighbourhood import Neighbourhood
from attime.attention.sparse.radial import Radial
from attime.attention.sparse.routing import BiLevelRouting
from attime.attention.sparse.sharded import Sharded
from attime.attention.sparse.window import SlidingWindow

__all__ = [
    "BiLevelRouting",
    "CausalNeighbourhood",
    "GatedRetrieval",
    "HierarchicalChunks",
    "Neighbourhood",
    "Radial",
    "Sharded",
    "SlidingWindow",
]
