"""Room memory: the bounded past at inference, as policies that compose."""

from attime.memory.contract import Chain, Policy, chain

__all__ = ["Chain", "Policy", "chain"]
