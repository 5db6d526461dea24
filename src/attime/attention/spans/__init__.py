"""Who may see whom, written once: training mask, block list and the eviction rule of a cache come from the same span.

span = (Window(512) | Sinks(4)) & Causal()
span.allows(query, key)          # dense oracle: broadcasts over index tensors
span.blocks(4096)                # analytic list of key blocks per query block, for `kernels.blocks.attend_blocks`
span.block_mask(4096)            # the same as a FlexAttention BlockMask
span.needed(key, now)            # may a query at position >= now still see this key? (what a cache keeps)
"""

from attime.attention.spans.grid import FrameCausal, Neighbourhood, Radial
from attime.attention.spans.groups import Groups
from attime.attention.spans.line import Causal, Dilated, Documents, Prefix, Sinks, Strided, Window
from attime.attention.spans.span import Intersection, Range, Span, Tile, Union

__all__ = [
    "Causal",
    "Dilated",
    "Documents",
    "FrameCausal",
    "Groups",
    "Intersection",
    "Neighbourhood",
    "Prefix",
    "Radial",
    "Range",
    "Sinks",
    "Span",
    "Strided",
    "Tile",
    "Union",
    "Window",
]
