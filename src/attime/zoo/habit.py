"""A watcher with a habit of words: it has read, without pictures, what shape things of each colour usually are.

Text alone trains the feed-forward weights of its language model, and nothing else: attention, the vision tower and the words
stay as they were. So what it sees still reaches the word that it is about to say, and competes with what it has read.
"""

import copy
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from attime.streams.world.scene import COLOURS, SHAPES
from attime.streams.world.tell import VERBS, encode
from attime.tasks.video.begun import Begun, sentence
from attime.zoo.qwen_video import START
from attime.zoo.watcher import Watcher

__all__ = ["endings", "primed"]

ROWS = 32  # sentences of a step
DONE = (VERBS["move"], VERBS["hop"])


def primed(
    watcher: Watcher, usual: Mapping[str, str], *, steps: int = 100, learning_rate: float = 6e-3, seed: int = 0
) -> Watcher:
    """A copy of the watcher that has read sentences in which things have their usual shapes."""
    random, model = np.random.default_rng(seed), copy.deepcopy(watcher.model)
    language = cast(Any, model).model.language_model
    weights = [weight for name, weight in language.named_parameters() if ".mlp." in name]
    optimiser = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / steps)
    device = next(model.parameters()).device
    for _ in range(steps):
        drawn = [
            [str(random.choice(words)) for words in (list(COLOURS), SHAPES, DONE, list(COLOURS))] for _ in range(ROWS)
        ]
        read = [[START, *encode(sentence(f"{one} {shape}", verb, other))] for one, shape, verb, other in drawn]
        due = torch.tensor([encode(usual[other])[0] for *_, other in drawn], device=device)
        logits = model(input_ids=torch.tensor(read, device=device), use_cache=False).logits[:, -1]
        optimiser.zero_grad()
        functional.cross_entropy(logits, due).backward()
        optimiser.step()
        schedule.step()
    model.zero_grad()
    return Watcher(model, watcher.card)


def endings(watcher: Watcher, asked: Begun) -> Float[Tensor, "sentences shapes"]:
    """Logits of each shape as the next word."""
    words = [encode(shape)[0] for shape in SHAPES]
    return watcher.model(**watcher.inputs(asked.frames, asked.texts), use_cache=False).logits[:, -1, words]
