"""The peak of a prefill's memory above the loaded model, in bytes, as JSON; `memory.py` runs it in a fresh process.

python benchmarks/memory_peak.py LENGTH
"""

import json
import resource
import sys

import torch

from attime.hub import attach
from memory import WINDOW
from memory_llama import filled, model


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    torch.set_num_threads(1)
    with torch.inference_mode(), attach(llama := model(), WINDOW) as attached:
        filled(llama, attached.cache(), 64)
        before = peak()
        filled(llama, attached.cache(), int(sys.argv[1]))
        print(json.dumps({"peak": peak() - before}))
