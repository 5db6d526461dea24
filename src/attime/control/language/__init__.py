"""Controls of attention in language and vision-language models."""

from attime.control.language.any_order import AnyOrder
from attime.control.language.local_view import LocalView, assembled, most_relevant, relevance
from attime.control.language.pruned_heads import PrunedHeads
from attime.control.language.sink_calibration import SinkCalibration, helpful_heads
from attime.control.language.visual_boost import VisualBoost, local_and_summary
from attime.control.language.visual_heads import VisualHeads, text_only
from attime.control.language.visual_sinks import VisualSinks

__all__ = [
    "AnyOrder",
    "LocalView",
    "PrunedHeads",
    "SinkCalibration",
    "VisualBoost",
    "VisualHeads",
    "VisualSinks",
    "assembled",
    "helpful_heads",
    "local_and_summary",
    "most_relevant",
    "relevance",
    "text_only",
]
