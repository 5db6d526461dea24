"""A model with a memory attached under torch.compile: the same numbers, and no new graph while the past grows and is pruned."""

from typing import Any

import pytest
import torch
import transformers
from torch._dynamo.utils import counters

from attime.hub import attach
from attime.memory import chain
from attime.memory.evict import SinkWindow
from attime.memory.place import Contiguous

SIZES: dict[str, Any] = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2)


@pytest.mark.compiles
def test_decoding_is_compiled_once() -> None:
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, num_attention_heads=4)).eval()
    ids = torch.randint(0, 60, (1, 50))
    with torch.no_grad(), attach(model, chain(SinkWindow(sinks=2, window=30, every=8), Contiguous())) as attached:
        cache = attached.cache()
        plain = torch.cat([model(each, past_key_values=cache).logits for each in ids.split(1, dim=1)], dim=1)
        torch._dynamo.reset()
        counters.clear()
        compiled, cache, made, graphs = torch.compile(model, backend="eager"), attached.cache(), [], []
        for each in ids.split(1, dim=1):
            made.append(compiled(each, past_key_values=cache).logits)
            graphs.append(counters["stats"]["unique_graphs"])
        torch._dynamo.reset()
    torch.testing.assert_close(torch.cat(made, dim=1), plain, rtol=0, atol=1e-5)
    assert graphs[0] > 0
    assert graphs[-1] == graphs[2], "nothing is compiled anew"
