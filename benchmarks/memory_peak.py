"""The peak of a prefill's memory above the loaded model, in bytes, as JSON; `memory.py` runs it in a fresh process.

python benchmarks/memory_peak.py LENGTH
"""

import json
import sys

import torch

from attime.hub import attach
from memory import WINDOW
from memory_llama import filled, model, peak_above

if __name__ == "__main__":
    torch.set_num_threads(1)
    with torch.inference_mode(), attach(llama := model(), WINDOW) as attached:
        filled(llama, attached.cache(), 64)
        print(json.dumps({"peak": peak_above(lambda: filled(llama, attached.cache(), int(sys.argv[1])))}))
