"""The tiny Llama (4 layers, 256 channels, 8 heads) of the benchmarks of memory, and what is done with it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

__all__ = ["decoding", "filled", "model", "peak_above", "text"]

PART = 512  # tokens of a chunk in prefill
STEPS = 16


def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256, hidden_size=256, intermediate_size=688, num_hidden_layers=4, num_attention_heads=8,
        max_position_embeddings=1 << 17,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def text(length: int) -> torch.Tensor:
    return torch.randint(0, 256, (1, length), generator=torch.Generator().manual_seed(1))


def filled(llama: LlamaForCausalLM, cache: Any, length: int) -> Any:
    for part in text(length).split(PART, dim=1):
        llama(part, past_key_values=cache, logits_to_keep=1)
    return cache


def decoding(llama: LlamaForCausalLM, cache: Any, *, steps: int = STEPS) -> Callable[[], None]:
    """Some more tokens on the cache, which goes on growing."""
    token = torch.randint(0, 256, (1, 1))

    def run() -> None:
        for _ in range(steps):
            llama(token, past_key_values=cache)

    return run


def peak_above(run: Callable[[], object]) -> int:
    """Bytes by which the process's resident memory rises at most while something runs (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    before = _status("VmRSS")
    run()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
