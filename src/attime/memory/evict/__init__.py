"""Family evict: policies that drop entries for good."""

from attime.memory.evict.sink_window import SinkWindow

__all__ = ["SinkWindow"]
