"""Family coded: a past as a stream of bits, for saving and sending; decoding gives exact stores of coarser numbers."""

from attime.memory.coded.coder import Coded, Coder
from attime.memory.coded.level import Codes, Level
from attime.memory.coded.sending import Chunk, Sent, Trace

__all__ = ["Chunk", "Coded", "Coder", "Codes", "Level", "Sent", "Trace"]
