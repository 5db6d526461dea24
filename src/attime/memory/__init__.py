"""Room memory: the bounded past at inference, as policies that compose."""

from attime.memory.chained import Chain, chain
from attime.memory.contract import Policy

__all__ = ["Chain", "Policy", "chain"]
