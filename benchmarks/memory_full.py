"""Decode with everything kept against DynamicCache, in a process of its own; see `memory.py`, whose helper this is.

What a process has allocated before changes what a growing cache costs that is copied at every token.

python benchmarks/memory_full.py LENGTH
"""

import json
import sys

import torch
from transformers import DynamicCache

from attime.hub import attach
from memory_llama import decoding, filled, model
from timing import medians


@torch.inference_mode()
def main(length: int) -> None:
    ours, theirs = model(), model()
    with attach(ours) as attached:
        runs = {
            "theirs": decoding(theirs, filled(theirs, DynamicCache(), length)),
            "ours": decoding(ours, filled(ours, attached.cache(), length)),
        }
        seconds = medians(runs, rounds=7)
    print(json.dumps({"share": seconds["ours"] / seconds["theirs"]}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
