"""ReKV: a stream is read once through a small window; each question brings back the blocks that it needs, and is answered.

Claim:   without training, the keys and values of a long stream, parked outside of the model as they leave the window, answer
         questions about any of it: blocks are found by the question's query, and memory in use stays constant.
Parts:   memory.retrieve.Retrieve and OnDisk, hub.attach (cache.ask)
Proof:   the zoo's recall model reads noise with eight key-value pairs once, through sinks and a window of half the stream,
         the rest on disk, and is then asked for keys that are gone. Some layer's heads find the answer's entry for 90 % of the
         questions, answers are within 3 points of those with everything in sight, and with the window alone, or as much
         brought back at random, fewer than 40 % are right. All blocks brought back are no memory at all (logits to 1e-4).
Differs: lookups in place of video, so no external (image-text) retrieval. Keys are compared unrotated and read at contiguous
         positions, as ReKV's are. A block is one token, where a frame has 196: here neighbours have nothing in common. Each
         head chooses for itself, since few of them do the looking up: one choice for all (`heads="shared"`, as in ReKV)
         finds 67 to 79 % in layer 1; of mean keys of four at a window of 48, heads alone find 87 %. The window stays in
         sight beside what is brought back, see Retrieve. The zoo's watcher cannot show it on video: from eight clips in a
         row the question's mean query finds the right one by mean keys in 6 to 21 % of the cases in any layer and head
         (chance 12), and the attention of a name's words in 46 % at best; within a clip of 4 s, where full attention has
         every answer right, one frame brought back beside the latest gives 41 to 46 %, the latest two 45 %, two frames
         evenly spread 59 %.
"""

from typing import Any

import torch
from torch import Tensor

from attime import zoo
from attime.hub import attach
from attime.memory.retrieve import OnDisk, Retrieve
from attime.papers.card import Paper, Verdict
from attime.zoo.recall import KEYS, NEEDLE

PAPER = Paper(
    number=181,
    title="Streaming Video Question-Answering with In-context Video KV-Cache Retrieval",
    url="https://arxiv.org/abs/2503.00540",
    parts=(Retrieve, OnDisk, attach),
)
FULL = {"rows": 256, "asked": 8}
SINKS, WINDOW = 4, 128


@torch.inference_mode()
def run(*, rows: int = 16, asked: int = 4, block: int = 1, blocks: int = 24, seed: int = 0) -> Verdict:
    """Read rows of noise and pairs once and ask for the first pairs, with blocks chosen in three ways."""
    model: Any = zoo.load("recall").model
    stream = next(NEEDLE.train(seed=1_000_003 + seed, batch=rows)).inputs[:, :-1]
    where = (stream < KEYS).nonzero()[:, 1].view(rows, -1)[:, :asked]
    row, generator = torch.arange(rows), torch.Generator().manual_seed(seed)
    how: dict[str, Any] = dict(
        cosine=True, unrotated=True, contiguous=True, sinks=SINKS, window=WINDOW, block=block, every=16
    )
    right: dict[str, list[Tensor]] = {name: [] for name in ("everything", "question", "window", "random")}
    found = []
    with attach(model) as attached:
        whole = attached.cache()
        model(stream, past_key_values=whole)
        plain = [model(stream[row, at][:, None], past_key_values=whole.copy()).logits[:, -1] for at in where.T]
    with attach(model, Retrieve(blocks=blocks, by="question", where=OnDisk(), **how)) as attached:
        cache = attached.cache()
        model(stream, past_key_values=cache)
        line = next(iter(cache.ledger()))
        for at, logits in zip(where.T, plain, strict=True):
            gone = (at >= SINKS) & (at + 1 < SINKS + line.parked)
            question, answer = stream[row, at][:, None], stream[row, at + 1]
            last = (at + 1 - SINKS) // block  # the answer's block
            right["everything"].append((logits.argmax(-1) == answer)[gone])
            for name in ("question", "window", "random"):
                copy = cache.copy() if name == "window" else cache.ask()
                banks = [layer.pasts[0][1].banks[0] for layer in copy.memory]
                if name == "random":
                    for layer, bank in zip(copy.memory, banks, strict=True):
                        drawn = (
                            torch.rand(len(bank.lanes), line.parked // block, generator=generator).topk(blocks).indices
                        )
                        assert bank.parked is not None
                        bank.parked.asked, bank.parked.pinned = False, drawn.sort(1).values
                        bank.parked.settle(layer.pasts[0][1], bank)
                said = model(question, past_key_values=copy).logits[:, -1].argmax(-1)
                right[name].append((said == answer)[gone])
                if name == "question":
                    chosen = torch.stack([bank.parked.pinned.view(rows, -1) for bank in banks])  # type: ignore[union-attr]
                    found.append((chosen == last[:, None]).any(2)[:, gone])
    with attach(model, Retrieve(blocks=stream.shape[1], **how)) as attached:
        cache = attached.cache()
        model(stream, past_key_values=cache)
        have = model(stream[row, where[:, 0]][:, None], past_key_values=cache.ask()).logits[:, -1]
    numbers = {f"right, {name}": float(torch.cat(each).double().mean()) for name, each in right.items()}
    layers = torch.cat(found, dim=1).double().mean(1)
    numbers |= {f"found, layer {number}": float(share) for number, share in enumerate(layers)}
    numbers |= {"kept in sight": (line.kept + blocks * block) / line.seen}
    numbers["difference with all blocks"] = float((have - plain[0]).abs().max())
    failed = {
        "no layer finds the blocks": float(layers.max()) >= 0.9,
        "answers are lost": numbers["right, question"] >= numbers["right, everything"] - 0.03,
        "the window is enough": numbers["right, window"] < 0.4,
        "random blocks are enough": numbers["right, random"] < 0.4,
        "all blocks are not everything": numbers["difference with all blocks"] < 1e-4,
    }
    reason = "; ".join(why for why, holds in failed.items() if not holds)
    return Verdict(holds=not reason, numbers=numbers, reason=reason)
