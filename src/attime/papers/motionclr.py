"""MotionCLR: edits of a motion by edits of its attention.

Claim:   in a diffusion model of motion, cross-attention says when a word counts and self-attention how a motion goes on; without
         training, a motion is made stronger or weaker by the weight of its word, moved in time, replaced in place, or followed.
Parts:   control.diffusion.WordWeight, control.diffusion.FrameOrder, control.diffusion.FromFirst, zoo.load("painter")
Proof:   the zoo's painter is told `slowly fast`: the more `fast` weighs, the further things go, at each of five weights (Spearman
         1), by at least 1.2 times in all, and colours stay; on `fast` alone, taking the word away (add -.6) slows things. With the
         first clip's maps and the colour's word left free, a second clip, begun from the same noise, follows the first more
         closely than without, in its own colour. Halves of queries, keys and values exchanged exchange the halves of what
         attention over time makes, to 1e-5, and in clips painted so things are nearer to where they are in the plain clip with
         its halves exchanged than to where they are in the plain clip.
Differs: a painter of pixels in place of a model of skeletons. More than the trained weight by addition (add > 0) does not speed
         things up here, as all heads and places are given the same; the weight is multiplied. A shift in the first four of
         ten steps, as in the paper, is undone here by the others; it acts in all steps. Counting is left out.
"""

from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attime import zoo
from attime.control.contract import Control
from attime.control.diffusion import FrameOrder, FromFirst, WordWeight
from attime.hub import steer, watch
from attime.papers.card import Paper, Verdict
from attime.streams.world import WAYS
from attime.streams.world.follow import Motion, follow
from attime.zoo.flow_matching import walk
from attime.zoo.painting import FRAMES, SIZE, decoded, share

PAPER = Paper(
    number=80,
    title="MotionCLR: Motion Generation and Training-free Editing via Understanding Attention Mechanisms",
    url="https://arxiv.org/abs/2410.18977",
    parts=(WordWeight, FrameOrder, FromFirst),
)
FULL = {"clips": 48, "steps": 20}
WEIGHTS = (0.1, 0.5, 1.0, 2.0, 3.0)


def run(*, clips: int = 12, steps: int = 8, seed: int = 0) -> Verdict:
    """Weigh a word, follow a clip, and shift in time, in `clips` clips."""
    painter: Any = zoo.load("painter")
    prompts = (
        np.random.default_rng(seed).choice([each for each in painter.prompts if each.endswith("fast")], clips).tolist()
    )
    asked, words = [painter.sentences.parse(each) for each in prompts], painter.sentences.encode(prompts)
    slowly = painter.sentences.encode([each.replace("fast", "slowly") for each in prompts])
    both = torch.cat([slowly, words[:, 5:]], dim=1)
    noise = torch.randn(clips, 3, FRAMES, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    ways, colours = np.array([WAYS[each.way] for each in asked]), [each.colour for each in asked]
    numbers: dict[str, float] = {}
    for weight in WEIGHTS:
        seen = _seen(painter, noise, both, steps, WordWeight(words=(6,), times=weight, asked=clips))
        numbers[f"pixels gone, fast times {weight:g}"] = float((seen.displacement * ways).sum(1).mean())
        numbers[f"colour, fast times {weight:g}"] = share(seen.colour, colours)
    for add in (-0.6, 0.0, 0.6):
        seen = _seen(painter, noise, words, steps, WordWeight(words=(5,), add=add, asked=clips))
        numbers[f"pixels gone, fast alone {add:+g}"] = float((seen.displacement * ways).sum(1).mean())
    others = ["red" if colour != "red" else "blue" for colour in colours]
    changed = painter.sentences.encode(
        [f"the {one} {each.split(' ', 2)[2]}" for one, each in zip(others, prompts, strict=True)]
    )
    pairs, twice = torch.stack([words, changed], dim=1).flatten(0, 1), noise.repeat_interleave(2, 0)
    for name, control in (("plain", None), ("same maps", FromFirst(what="maps", words=(1,)))):
        seen = _seen(painter, twice, pairs, steps, control)
        numbers[f"apart in pixels, {name}"] = float(np.linalg.norm(seen.path[::2] - seen.path[1::2], axis=-1).mean())
        numbers[f"own colour, {name}"] = share(seen.colour[1::2], others)
    gone = [numbers[f"pixels gone, fast times {weight:g}"] for weight in WEIGHTS]
    kept = [numbers[f"colour, fast times {weight:g}"] for weight in WEIGHTS]
    plain, shifted = (_seen(painter, noise, words, steps, control).path for control in (None, FrameOrder()))
    for name, path in (("plain", plain), ("exchanged", np.roll(plain, FRAMES // 2, axis=1))):
        numbers[f"shifted from {name}, pixels"] = float(np.linalg.norm(shifted - path, axis=-1).mean())
    numbers["shift, largest difference"] = _shifted(painter, noise[:2], words[:2])
    rises = bool((np.diff(gone) > 0).all()) and gone[-1] >= 1.2 * gone[0] and min(kept) >= 0.9
    weakens = numbers["pixels gone, fast alone -0.6"] < numbers["pixels gone, fast alone +0"]
    follows = (
        numbers["apart in pixels, same maps"] < numbers["apart in pixels, plain"]
        and numbers["own colour, same maps"] >= 0.8
    )
    nearer = numbers["shifted from exchanged, pixels"] < numbers["shifted from plain, pixels"]
    shifts = nearer and numbers["shift, largest difference"] < 1e-5
    holds = rises and weakens and follows and shifts
    return Verdict(holds=holds, numbers=numbers, reason="" if holds else f"{rises=}, {weakens=}, {follows=}, {shifts=}")


def _seen(painter: Any, noise: Tensor, words: Tensor, steps: int, control: Control | None) -> Motion:
    """The world's measurement of what is painted under a control."""
    nothing = painter.sentences.encode([""] * len(noise)).repeat(1, 2, 1)[:, : words.shape[1]]
    with steer(painter.model, control) if control else nullcontext():
        *_, last = walk(painter.model, noise, words, nothing, steps=steps, guidance=painter.guidance)
    return follow(decoded(last.latents))


def _shifted(painter: Any, noise: Tensor, words: Tensor) -> float:
    """How far the outputs of the first attention over time, under exchanged halves, are from exchanged outputs."""
    made = []
    for strength in (0.0, 1.0):
        with (
            steer(painter.model, FrameOrder(strength=strength)),
            watch(painter.model, where="joint 0", keep="outputs") as seen,
        ):
            list(walk(painter.model, noise, words, words, steps=1, guidance=1.0))
        made.append(seen.records[0].value)
    return float((made[0].roll(made[0].shape[2] // 2, dims=2) - made[1]).abs().max())
