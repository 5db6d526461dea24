"""T3: questions about time learnt from text alone are then answered about video.

Claim:   what keeps a video language model from answering questions about time is its language half, not what it sees: its
         visual tokens hold the answer, and fine-tuning the language half on questions about told frames, without any
         video, carries over (LongVA-7B gains 5.3 points on TempCompass).
Parts:   tasks.video.ToldFrames, tasks.video.ToldReader
Proof:   a small language half learns what needs no time (`basis` steps on told frames), an eye learns from single pictures
         to give the vectors of their captions. On painted clips: the captions nearest to the visual tokens, and so the
         order, must be right in more than 95 %; after `steps` steps of told frames order must be answered at least 20
         points better than before, with no loss (2 points) of what needs no time. Control: painted frames in random order
         must bring it back to within 10 points of chance. FULL asks of all six aspects.
Differs: a model of 60 thousand parameters from nothing instead of fine-tuning one of billions; names are single tokens and
         the vectors of words are random and fixed, so that eye and language half meet by construction and a frame is as
         good as its caption. Captions are made by rules, and names are exchanged at every step instead of writing more.
"""

import numpy as np
import torch

from attime.papers.card import Paper, Verdict
from attime.tasks.video.told_frames import ToldFrames
from attime.tasks.video.told_reader import ToldReader

PAPER = Paper(
    number=40,
    title="Temporal Reasoning Transfer from Text to Video",
    url="https://arxiv.org/abs/2410.06166",
    parts=(ToldFrames, ToldReader),
)
FULL = {"steps": 2000, "clips": 1200, "aspects": "order,referring,grounding,change,presence,colour"}
STATIC = ("presence", "colour")


def run(
    *,
    basis: int = 320,
    steps: int = 320,
    aspects: str = "order,presence,colour",
    frames: int = 4,
    clips: int = 600,
    seed: int = 0,
) -> Verdict:
    """Teach the language half what needs no time, give it an eye, ask; teach it time in words, ask again."""
    kinds = tuple(aspects.split(","))
    told = ToldFrames(aspects=kinds, frames=frames, questions=4800).items(seed=seed)
    asked = ToldFrames(aspects=kinds, frames=frames, questions=clips).items(seed=seed + 1_000_003)
    model = ToldReader(frames=frames, seed=seed)
    numbers: dict[str, float] = {}

    def examine(name: str, seen: torch.Tensor | None) -> None:
        right = [said == item.answer for said, item in zip(model.answer(asked, seen), asked, strict=True)]
        for kind in kinds:
            mine = [each for each, item in zip(right, asked, strict=True) if item.aspect == kind]
            numbers[f"{kind}_{name}"] = float(np.mean(mine))

    model.study([item for item in told if item.aspect in STATIC], steps=basis)
    model.look(told[:400])
    seen = model.see(asked)
    read = float(np.mean([names == item.captions for names, item in zip(model.read(seen), asked, strict=True)]))
    examine("before", seen)
    model.study(told, steps=steps)
    examine("after", seen)
    examine("told", None)
    random = torch.Generator().manual_seed(seed)
    examine("shuffled", torch.stack([each[torch.randperm(frames, generator=random)] for each in seen]))
    chance = ToldFrames(aspects=kinds, frames=frames, questions=clips).chance()
    gain = numbers["order_after"] - numbers["order_before"]
    lost = max(numbers[f"{kind}_before"] - numbers[f"{kind}_after"] for kind in kinds if kind in STATIC)
    blind = abs(numbers["order_shuffled"] - chance["order"])
    holds = read > 0.95 and gain >= 0.2 and lost <= 0.02 and blind <= 0.1
    numbers |= {"visual_tokens_read": read, "order_gain": gain, "order_chance": chance["order"]}
    reason = (
        "" if holds else f"read {read:.2f}, order gained {gain:.2f}, static lost {lost:.2f}, shuffled {blind:.2f} off"
    )
    return Verdict(holds=holds, numbers=numbers, reason=reason)
