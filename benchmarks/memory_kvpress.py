"""The peer of `memory.py`, in an environment of its own (kvpress 0.5.5, transformers 5.2): one JSON object, the last line.

python benchmarks/memory_kvpress.py LENGTH           # of the prefill whose peak is measured
python benchmarks/memory_kvpress.py FOLDER KEPT      # needles: a model, `inputs` and `targets`; entries kept of the prompt
"""

import json
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from kvpress import (  # pyright: ignore[reportMissingImports]: it has an environment of its own
    AdaKVPress,
    ExpectedAttentionPress,
    KnormPress,
    ObservedAttentionPress,
    SnapKVPress,
    StreamingLLMPress,
    TOVAPress,
)
from transformers import AutoModelForCausalLM, DynamicCache

from memory_llama import model, peak_above

LENGTH, PROMPT, STEPS, ROUNDS = 8192, 2048, 16, 3


def run(press: object, length: int, *, attention: str = "sdpa") -> tuple[float, float]:
    """CPU seconds of the prefill and of a step after it."""
    llama, ids, fills, steps = model(), torch.randint(0, 256, (1, length)), [], []
    llama.set_attn_implementation(attention)
    for _ in range(ROUNDS):
        cache = DynamicCache()
        start = time.thread_time()
        with press(llama) if press is not None else nullcontext():  # type: ignore[operator]
            llama(ids, past_key_values=cache, logits_to_keep=1)
        fills.append(time.thread_time() - start)
        for at in range(length, length + STEPS):
            place, start = torch.tensor([[at]]), time.thread_time()
            llama(ids[:, :1], past_key_values=cache, position_ids=place)
            steps.append(time.thread_time() - start)
    return statistics.median(fills), statistics.median(steps)


def peak_of(length: int) -> int:
    llama = model()
    llama(torch.zeros(1, 64, dtype=torch.long), logits_to_keep=1)
    with StreamingLLMPress(compression_ratio=1 - 1024 / length, n_sink=4)(llama):
        ids = torch.randint(0, 256, (1, length))
        return peak_above(lambda: llama(ids, past_key_values=DynamicCache(), logits_to_keep=1))


def needles(folder: Path, kept: int) -> dict[str, float]:
    """Share of the needles found if so many entries are kept after the prompt, which is all but the key asked for."""
    batch, found = torch.load(folder / "needles.pt"), {}
    context, asked = batch["inputs"].split([batch["inputs"].shape[1] - 1, 1], dim=1)
    ratio = 1 - (kept + 0.5) / context.shape[1]
    for press in (
        StreamingLLMPress(ratio, n_sink=4),
        KnormPress(ratio),
        TOVAPress(ratio),
        SnapKVPress(ratio, window_size=8),
        ObservedAttentionPress(ratio),
        ExpectedAttentionPress(ratio),
    ):
        eager = isinstance(press, ObservedAttentionPress)
        llama = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager" if eager else "sdpa").eval()
        cache = DynamicCache()
        with press(llama):
            llama(context, past_key_values=cache)
        assert cache.get_seq_length() == kept
        place = torch.full_like(asked, context.shape[1])
        logits = llama(asked, past_key_values=cache, position_ids=place).logits[:, -1]
        found[type(press).__name__] = float((logits.argmax(-1) == batch["targets"]).double().mean())
    return found


@torch.inference_mode()
def main(length: int) -> None:
    torch.set_num_threads(1)
    if len(sys.argv) > 2:
        print(json.dumps({"peak": peak_of(length)}))
        return
    found, half = {}, 0.5
    none, ada = run(None, LENGTH), run(AdaKVPress(SnapKVPress(half)), LENGTH)
    found["adakv decode / none"] = ada[1] / none[1]
    short = run(None, PROMPT)
    for name, press in {"knorm": KnormPress(half), "snapkv": SnapKVPress(half)}.items():
        found[f"{name} prefill / none"] = run(press, PROMPT)[0] / short[0]
    observed = run(ObservedAttentionPress(half), PROMPT, attention="eager")
    found["observed prefill / none"] = observed[0] / short[0]
    fresh = subprocess.run([sys.executable, __file__, str(length), "peak"], capture_output=True, text=True, check=True)
    found[f"peak at {length}"] = json.loads(fresh.stdout.splitlines()[-1])["peak"]
    print(json.dumps(found))


if __name__ == "__main__":
    if sys.argv[1].isdecimal():
        main(int(sys.argv[1]))
    else:
        with torch.inference_mode():
            print(json.dumps(needles(Path(sys.argv[1]), int(sys.argv[2]))))
