"""ReKV: a stream is read once through a small window; each question brings back the blocks that it needs, and is answered.

Claim:   without training, the keys and values of a long stream, parked outside of the model as they leave the window, answer
         questions about any of it: blocks are found by the question's query, and memory in use grows by a key a block alone.
Parts:   memory.retrieve.Retrieve and OnDisk, hub.attach (cache.ask)
Proof:   the zoo's recall model reads noise with eight key-value pairs once, through sinks and a window of half the stream,
         the rest on disk, and is then asked for keys that are gone. Some layer's heads find the answer's entry for 90 % of the
         questions, answers are within 3 points of those with everything in sight, and with the window alone, or as much
         brought back at random, fewer than 40 % are right. All blocks brought back are no memory at all (logits to 1e-4).
         In blocks of 16, noise from 1024 to 4096 tokens adds to memory at most a sixteenth of its keys and values (a mean
         key is a 32nd, and has room to grow), and an eighth of all is held then at most.
Differs: memory is not constant, as the paper has it, and answers and memory are shown at different blocks: at the one token
         a block of the answers, memory holds .70 of all keys and values after 4096 tokens, window and blocks included; with
         16, .07, but what is asked for is one token, which a mean of 16 hides. Lookups in place of video, so no external (image-text) retrieval. Keys are compared unrotated and read at contiguous
         positions, as ReKV's are. A frame has 196 tokens: here neighbours have nothing in common. Each
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
    held = dict[int, list[int]]()
    config, noise = model.config, torch.randint(KEYS, model.config.vocab_size, (1, 4096), generator=generator)
    for size in (block, max(16, block)):
        grows: dict[str, Any] = how | {"block": size, "blocks": max(1, blocks * block // size)}
        with attach(model, Retrieve(by="question", where=OnDisk(), **grows)) as attached:
            cache = attached.cache()
            held[size] = []
            for piece in noise.split(128, dim=1):
                model(piece, past_key_values=cache, logits_to_keep=1)
                held[size].append(cache.nbytes)
    numbers = {f"right, {name}": float(torch.cat(each).double().mean()) for name, each in right.items()}
    layers = torch.cat(found, dim=1).double().mean(1)
    numbers |= {f"found, layer {number}": float(share) for number, share in enumerate(layers)}
    numbers |= {"kept in sight": (line.kept + blocks * block) / line.seen}
    numbers["difference with all blocks"] = float((have - plain[0]).abs().max())
    entry = 4 * 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim  # bytes
    numbers |= {f"held of 4096, blocks of {size}": each[-1] / (4096 * entry) for size, each in held.items()}
    numbers["held more of what came, blocks of 16"] = (held[max(held)][-1] - held[max(held)][7]) / (3072 * entry)
    failed = {
        "no layer finds the blocks": float(layers.max()) >= 0.9,
        "answers are lost": numbers["right, question"] >= numbers["right, everything"] - 0.03,
        "the window is enough": numbers["right, window"] < 0.4,
        "random blocks are enough": numbers["right, random"] < 0.4,
        "memory grows": numbers["held more of what came, blocks of 16"] <= 1 / 16,
        "memory holds too much": numbers[f"held of 4096, blocks of {max(held)}"] <= 1 / 8,
        "all blocks are not everything": numbers["difference with all blocks"] < 1e-4,
    }
    reason = "; ".join(why for why, holds in failed.items() if not holds)
    return Verdict(holds=not reason, numbers=numbers, reason=reason)
