"""TALC: a clip of several scenes, each frame told about its own.

Claim:   a text-to-video model whose frames attend to the captions of their own scenes paints clips of several scenes that are
         faithful to every caption and stay consistent; captions merged into one are mixed up, and clips painted one by one
         do not fit together.
Parts:   control.diffusion.SceneCaptions, hub.steer, zoo.load("painter")
Proof:   the zoo's painter, trained on one sentence per clip, is told of a thing of one colour and of another colour. The world
         finds the asked colour in both halves at least 20 points more often than with merged captions, and what moves is where
         it was when the scene changes: its jump is at most a quarter of that between clips painted one by one. One caption
         told twice is the caption told once.
Differs: the training-free form; the paper's best is also trained on clips with several captions. Scenes of the painter's world
         differ in the colour of the one thing that is there; consistency is where that thing is.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attime import zoo
from attime.control.diffusion import SceneCaptions
from attime.hub import steer
from attime.papers.card import Paper, Verdict
from attime.streams.world.follow import follow
from attime.zoo.flow_matching import walk
from attime.zoo.painting import FRAMES, SIZE, decoded, share

PAPER = Paper(
    number=209,
    title="TALC: Time-Aligned Captions for Multi-Scene Text-to-Video Generation",
    url="https://arxiv.org/abs/2405.04682",
    parts=(SceneCaptions, steer),
)
FULL = {"clips": 96, "steps": 20}


def run(*, clips: int = 16, steps: int = 10, seed: int = 0) -> Verdict:
    """Two scenes in `clips` clips, told by time-aligned captions, by both captions at once, and painted one by one."""
    painter: Any = zoo.load("painter")
    random = np.random.default_rng(seed)
    words = painter.sentences
    colours = np.array([random.choice(words.colours, 2, replace=False) for _ in range(clips)]).T.tolist()
    rest = [
        f"{random.choice(words.shapes)} moves {random.choice(['left', 'right', 'up', 'down'])} slowly"
        for _ in colours[0]
    ]
    told = [
        words.encode([f"the {colour} {each}" for colour, each in zip(scene, rest, strict=True)]) for scene in colours
    ]
    noise = torch.randn(2, clips, 3, FRAMES, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    both = torch.cat(told, dim=1)
    with steer(painter.model, SceneCaptions()):
        aligned = _painted(painter, noise[0], both, steps)
        twice = _painted(painter, noise[0], torch.cat([told[0], told[0]], dim=1), steps)
    alone = [_painted(painter, each, caption, steps) for each, caption in zip(noise, told, strict=True)]
    half = FRAMES // 2
    films = {
        "aligned": decoded(aligned),
        "merged": decoded(_painted(painter, noise[0], both, steps)),
        "one by one": np.concatenate([decoded(alone[0])[:, :half], decoded(alone[1])[:, half:]], axis=1),
    }
    numbers = {"one caption told twice, largest difference": float((twice - alone[0]).abs().max())}
    for name, film in films.items():
        numbers[f"colour, {name}"], numbers[f"jump in pixels, {name}"] = _judged(film, colours)
    exact = numbers["one caption told twice, largest difference"] < 1e-3
    faithful = numbers["colour, aligned"] >= numbers["colour, merged"] + 0.2
    consistent = numbers["jump in pixels, aligned"] <= numbers["jump in pixels, one by one"] / 4
    holds = exact and faithful and consistent
    return Verdict(holds=holds, numbers=numbers, reason="" if holds else f"{exact=}, {faithful=}, {consistent=}")


def _painted(painter: Any, noise: Tensor, words: Tensor, steps: int) -> Tensor:
    """Latents of clips for words as the model takes them."""
    nothing = painter.sentences.encode([""] * len(noise)).repeat(1, words.shape[1] // 6, 1)
    *_, last = walk(painter.model, noise, words, nothing, steps=steps, guidance=painter.guidance)
    return last.latents


def _judged(film: NDArray[np.uint8], colours: list[list[str]]) -> tuple[float, float]:
    """How often both scenes have their colours, and how far the thing goes from the last frame of one to the first of the other."""
    first, second = follow(film[:, : FRAMES // 2]), follow(film[:, FRAMES // 2 :])
    right = [
        one == two
        for one, two in zip(zip(first.colour, second.colour, strict=True), zip(*colours, strict=True), strict=True)
    ]
    jump = np.linalg.norm(second.path[:, 0] - first.path[:, -1], axis=-1)
    return share([str(each) for each in right], ["True"] * len(right)), float(np.mean(jump))
