"""Family softmax."""

from attime.attention.softmax.chunk_gated import ChunkGated
from attime.attention.softmax.prefix_query import PrefixQuery

__all__ = ["ChunkGated", "PrefixQuery"]
