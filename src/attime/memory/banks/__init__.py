"""Family banks: bounded memories over features of frames, written for ever and read as tokens in order of time."""

from attime.memory.banks.clip_memories import ClipMemories
from attime.memory.banks.clusters import FrameClusters
from attime.memory.banks.contract import Entry, FrameBank, Kept, Tokens
from attime.memory.banks.even_sample import EvenSample
from attime.memory.banks.frame_pyramid import FramePyramid
from attime.memory.banks.latest import Latest
from attime.memory.banks.memory_bridge import MemoryBridge
from attime.memory.banks.reservoir import Reservoir
from attime.memory.banks.scenes import SceneEnds, depth_scores, scene_cuts
from attime.memory.banks.semantic_slots import SemanticSlots
from attime.memory.banks.together import Together

__all__ = [
    "ClipMemories",
    "Entry",
    "EvenSample",
    "FrameBank",
    "FrameClusters",
    "FramePyramid",
    "Kept",
    "Latest",
    "MemoryBridge",
    "Reservoir",
    "SceneEnds",
    "SemanticSlots",
    "Together",
    "Tokens",
    "depth_scores",
    "scene_cuts",
]
