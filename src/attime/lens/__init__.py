"""Room lens: measures of what attention does, as functions of queries, keys and maps."""

from attime.lens.attention import attention_map
from attime.lens.decay import decay_rate, spacetime_profile
from attime.lens.gates import gated_attention
from attime.lens.hops import divergence, hop_profile
from attime.lens.massive import massive_dims, massive_tokens
from attime.lens.patterns import Patterns, dominant, map_patterns, purity
from attime.lens.pruning import Importance, importance, rank_agreement
from attime.lens.retrieval import copied_share, echo, induction
from attime.lens.rhythm import attention_distance, future_influence, local_heads
from attime.lens.saliency import agreement, hidden_saliency
from attime.lens.sinks import attention_received, sink_rate
from attime.lens.temporal_energy import energy_split, temporal_energy
from attime.lens.vision import head_divergence, word_divergence

__all__ = [
    "Importance",
    "Patterns",
    "agreement",
    "attention_distance",
    "attention_map",
    "attention_received",
    "copied_share",
    "decay_rate",
    "divergence",
    "dominant",
    "echo",
    "energy_split",
    "future_influence",
    "gated_attention",
    "head_divergence",
    "hidden_saliency",
    "hop_profile",
    "importance",
    "induction",
    "local_heads",
    "map_patterns",
    "massive_dims",
    "massive_tokens",
    "purity",
    "rank_agreement",
    "sink_rate",
    "spacetime_profile",
    "temporal_energy",
    "word_divergence",
]
