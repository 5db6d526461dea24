"""HiDiffusion: larger pictures than in training, by attention in windows and deep blocks of the size they know.

Claim:   most of the time of a large picture goes into self-attention at the highest resolution, which looks near anyhow: in
         shifted windows it costs a part and changes little; deep blocks that see the size of training keep things single.
Parts:   control.diffusion.Windows, hub.coarse, zoo.load("painter-latte")
Proof:   counted in the zoo's painter: two by two windows make a quarter of the scores over places, exactly. One window is the
         model itself, bit for bit without a shift, and to 1e-3 with one. With windows at the first and the last layer, the world
         finds colour and direction of things as asked at most 10 points less often than without.
Differs: the zoo has no U-Net, so that things stay single (`hub.coarse`) is not shown: tests show that with it the deep blocks of
         a random U-Net see half the size, that outputs keep theirs, and that no step of it is the model, bit for bit. At 4 x 4
         places time is not saved: scores are counted.
"""

from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attime import zoo
from attime.control.diffusion import Windows
from attime.hub import steer, watch
from attime.hub.coarse import coarse
from attime.papers.card import Paper, Verdict
from attime.site import kind, layer
from attime.streams.world.follow import follow
from attime.zoo.painting import share

PAPER = Paper(
    number=121,
    title="HiDiffusion: Unlocking High-Resolution Creativity and Efficiency in Low-Resolution Trained Diffusion Models",
    url="https://arxiv.org/abs/2311.17528",
    parts=(Windows, coarse),
)
FULL = {"clips": 32, "steps": 20}


def run(*, clips: int = 6, steps: int = 6, seed: int = 0) -> Verdict:
    """Clips of the painter with windows at two layers and at all, and with a single window."""
    painter: Any = zoo.load("painter-latte")
    prompts = np.random.default_rng(seed).choice(painter.prompts, clips).tolist()
    asked = [painter.sentences.parse(each) for each in prompts]
    ends, numbers = kind("spatial") & layer(0, 3), dict[str, float]()
    for name, where in (("plain", None), ("windows", ends), ("windows at all layers", kind("spatial"))):
        with steer(painter.model, Windows(), where=where) if where else nullcontext():
            seen = follow(painter.paint(prompts, seed=seed, steps=steps))
        numbers[f"colour, {name}"] = share(seen.colour, [each.colour for each in asked])
        numbers[f"direction, {name}"] = share(seen.direction, [each.way for each in asked])
    plain, whole, moved, cut = (
        _once(painter, prompts[:2], control, seed)
        for control in (None, Windows(windows=(1, 1), shifts=(0.0,)), Windows(windows=(1, 1), shifts=(0.5,)), Windows())
    )
    numbers["one window, largest difference"] = float((whole[0] - plain[0]).abs().max())
    numbers["one window, moved"] = float((moved[0] - plain[0]).abs().max())
    numbers["scores in windows, share"] = cut[1] / plain[1]
    exact = numbers["one window, largest difference"] == 0 and numbers["one window, moved"] < 1e-3
    cheap = numbers["scores in windows, share"] == 0.25
    keeps = all(numbers[f"{what}, windows"] >= numbers[f"{what}, plain"] - 0.1 for what in ("colour", "direction"))
    holds = exact and cheap and keeps
    return Verdict(holds=holds, numbers=numbers, reason="" if holds else f"{exact=}, {cheap=}, {keeps=}")


def _once(painter: Any, prompts: list[str], control: Windows | None, seed: int) -> tuple[Tensor, float]:
    """What one step makes, and the scores over places that it takes."""
    with (
        steer(painter.model, control) if control else nullcontext(),
        watch(
            painter.model, where="spatial", keep=lambda call: torch.tensor(call.q[..., 0].numel() * call.k.shape[2])
        ) as seen,
    ):
        *_, last = painter.walk(prompts, seed=seed, steps=1)
    return last.latents, float(sum(record.value for record in seen))
