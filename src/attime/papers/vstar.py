"""VSTAR: a model makes longer clips that still change, if its frames are told to look at those near them.

Claim:   frames of a clip longer than in training look everywhere and change little; a Gaussian band added to temporal attention
         makes neighbours matter and the clip more dynamic, in one pass and without training. Prompts for the stages of a clip,
         interpolated over its frames, change what is shown along the way.
Parts:   control.diffusion.TemporalPrior, control.diffusion.CaptionPath, zoo.load("painter-latte")
Proof:   at four times its training length (positions in time spread evenly) the painter's temporal maps hold more on the
         diagonal and the two beside it, and adjacent frames differ more, the stronger the prior: 0 < 1/2 < 1, strictly, the
         last by a tenth at least; what is painted stays of the same size (5 %) and goes the same way; strength 0 is the same
         bits; R is the Toeplitz matrix of its first column. With two captions that differ in colour the first quarter of the
         clip has the first colour and the last the second, in 3 of 4 clips at least, and never with the first caption alone.
Differs: one width at all sites, as the painter has one resolution; in all steps. More change of adjacent frames is in part
         jitter, which is shown. Stage captions are written by us.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attime import zoo
from attime.control.call import Call
from attime.control.contract import Control
from attime.control.diffusion import CaptionPath, TemporalPrior
from attime.hub import steer, watch
from attime.papers.card import Paper, Verdict
from attime.streams.world.follow import follow
from attime.zoo.flow_matching import walk
from attime.zoo.painting import FRAMES, SIZE, decoded

PAPER = Paper(
    number=1,
    title="VSTAR: Generative Temporal Nursing for Longer Dynamic Video Synthesis",
    url="https://arxiv.org/abs/2403.13501",
    parts=(TemporalPrior, CaptionPath, steer),
)
FULL = {"clips": 32, "steps": 20}


def run(*, clips: int = 4, steps: int = 6, times: int = 4, seed: int = 0) -> Verdict:
    """Paint clips `times` as long as in training with priors of three strengths, and along two captions."""
    painter: Any = zoo.load("painter-latte")
    asked = np.random.default_rng(seed).choice([each for each in painter.prompts if "fast" in each], clips).tolist()
    noise = torch.randn(clips, 3, times * FRAMES, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    numbers, ways, areas, films = {}, [], [], []
    for strength in (0.0, 0.5, 1.0):
        with (
            steer(painter.model, TemporalPrior(strength=strength)),
            watch(painter.model, where="temporal", keep=_band) as seen,
        ):
            films.append(painter.paint(asked, noise=noise, steps=steps))
        motion = follow(films[-1])
        numbers[f"near the diagonal, strength {strength:g}"] = float(np.mean([float(each.value) for each in seen]))
        numbers[f"change of adjacent frames, strength {strength:g}"] = float(
            np.abs(np.diff(films[-1] / 255, axis=1)).mean()
        )
        numbers[f"jitter, strength {strength:g}"] = float(motion.jitter.mean())
        ways.append(motion.direction)
        areas.append(float(motion.area.mean()))
    same = bool((films[0] == painter.paint(asked, noise=noise, steps=steps)).all())
    bands, changes = (
        [value for name, value in numbers.items() if name.startswith(word)] for word in ("near", "change")
    )
    rises = bool((np.diff(bands) > 0).all() and (np.diff(changes) > 0).all() and changes[2] > 1.1 * changes[0])
    kept = max(abs(area / areas[0] - 1) for area in areas) < 0.05 and ways[0] == ways[2]
    prior = TemporalPrior(width=2.0).prior(9).numpy()
    apart = np.abs(np.subtract.outer(np.arange(9), np.arange(9)))
    toeplitz = bool((prior == prior[0][apart]).all())
    first = [f"the red square moves {way} fast" for way in ("left", "right", "up", "down")]
    second = [each.replace("red", "blue") for each in first]
    numbers["first red, then blue"] = _turned(painter, first, second, steps, seed)
    numbers["first red, then blue, one caption"] = _turned(painter, first, first, steps, seed)
    path = numbers["first red, then blue"] >= 0.75 and numbers["first red, then blue, one caption"] == 0
    holds = same and rises and kept and toeplitz and path
    return Verdict(
        holds=holds, numbers=numbers, reason="" if holds else f"{same=}, {rises=}, {kept=}, {toeplitz=}, {path=}"
    )


def _band(call: Call) -> torch.Tensor:
    """Attention of frames to themselves and to the two beside them."""
    near: list[torch.Tensor] = [call.maps.diagonal(offset, -2, -1).sum(-1) for offset in (-1, 0, 1)]
    return torch.stack(near).sum(0).mean() / call.maps.shape[-1]


def _turned(painter: Any, first: list[str], second: list[str], steps: int, seed: int) -> float:
    """Share of clips along two captions whose first quarter is red and whose last is blue."""
    words = torch.cat([painter.sentences.encode(each) for each in (first, second)], dim=1)
    nothing = torch.cat([painter.sentences.encode([""] * len(first))] * 2, dim=1)
    noise = torch.randn(len(first), 3, 2 * FRAMES, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    control: Control = CaptionPath()
    with steer(painter.model, control):
        *_, last = walk(painter.at(2 * FRAMES), noise, words, nothing, steps=steps, guidance=painter.guidance)
    film: NDArray[np.uint8] = decoded(last.latents)
    quarter = film.shape[1] // 4
    begin, end = follow(film[:, :quarter]).colour, follow(film[:, -quarter:]).colour
    return float(np.mean([one == "red" and two == "blue" for one, two in zip(begin, end, strict=True)]))
