"""Softmax attention: keys and values of the past are kept, and every query weighs them anew."""

from attime.attention.softmax.bidirectional import Bidirectional
from attime.attention.softmax.chunk_gated import ChunkGated
from attime.attention.softmax.full import Softmax
from attime.attention.softmax.prefix_query import PrefixQuery
from attime.attention.softmax.similarity import Similarity

__all__ = ["Bidirectional", "ChunkGated", "PrefixQuery", "Similarity", "Softmax"]
