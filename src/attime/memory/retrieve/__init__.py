"""Family retrieve: pasts larger than what is attended, in memory or on disk, from which queries bring back what they need."""

from attime.memory.retrieve.chunks import Chunks
from attime.memory.retrieve.contract import Search, Where
from attime.memory.retrieve.exhaustive import Exhaustive
from attime.memory.retrieve.faiss import Faiss
from attime.memory.retrieve.in_memory import InMemory
from attime.memory.retrieve.on_disk import OnDisk
from attime.memory.retrieve.recycled import Recycled
from attime.memory.retrieve.retrieve import Retrieve

__all__ = ["Chunks", "Exhaustive", "Faiss", "InMemory", "OnDisk", "Recycled", "Retrieve", "Search", "Where"]
