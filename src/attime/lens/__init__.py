"""Room lens: measures of what attention does, as functions of queries, keys and maps."""

from attime.lens.attention import attention_map
from attime.lens.gates import gated_attention
from attime.lens.retrieval import copied_share, echo, induction

__all__ = ["attention_map", "copied_share", "echo", "gated_attention", "induction"]
