"""MotionMaster: how a clip moves is in its temporal attention, and can be lent to another clip.

Claim:   the motion of the camera is read from temporal logits of a source clip, freed from what moves by itself by filling its
         places in from around, and put into the generation of another clip, without training.
Parts:   control.diffusion.ScoreTransfer, control.diffusion.harmonic_fill, zoo.load("painter-latte")
Proof:   logits that see nothing but motion (minus the squared distance that the optical flow of a world clip goes between two
         frames, a camera pan and a thing of its own way): inside the thing's places the fill is off from the clip without the
         thing by less than half of what it was, and outside nothing changes, exactly. In the painter, logits of clips of
         `fast` under sentences that say `slowly` make the thing go at least 1.2 times as far, in the direction of the words
         (4 of 5 clips), and logits of `slowly` under `fast` less far than the words alone.
Differs: what is lent here is the pace. The direction stays that of the words, also where the source went the opposite way
         (the last number): the small painter has it from its cross attention, so the claim of camera motion itself is not
         shown. Nor does it come with the logits where nothing is said at all: with empty sentences .75, .38, .13 and .13 of
         eight clips went as the source did, over two seeds each with other and with the same noise. A pan moves all places
         alike, so that the fill of its logits is exact. It is of no use on the painter's own logits: blocks over space mix
         places, and on 4 by 4 or 8 by 8 of them it is off by as much as before (ratios .7 to 2 over backdrops). Logits of
         all steps are lent, not those of one; those of the first five of eight do almost nothing.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from attime import zoo
from attime.control.diffusion import ScoreTransfer, harmonic_fill
from attime.hub import steer, watch
from attime.papers.card import Paper, Verdict
from attime.streams.world import WAYS, Event, Shot, Thing, flow, masks
from attime.streams.world.follow import follow
from attime.streams.world.scene import CAMERA

PAPER = Paper(
    number=3,
    title="MotionMaster: Training-free Camera Motion Transfer For Video Generation",
    url="https://arxiv.org/abs/2404.15789",
    parts=(ScoreTransfer, harmonic_fill, steer, watch),
)
FULL = {"clips": 24, "steps": 20, "shots": 40}
OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}


def run(*, clips: int = 8, steps: int = 8, shots: int = 8, size: int = 24, seed: int = 0) -> Verdict:
    """Fill in what moves in `shots` world clips, and lend the logits of painted clips to others."""
    raw, left, outside = [], [], 0.0
    for number in range(shots):
        whole, bare, inside = _logits(np.random.default_rng([seed, number]), size)
        filled = harmonic_fill(whole, inside)
        within = inside.flatten()
        raw.append(float((whole - bare)[within].square().mean()))
        left.append(float((filled - bare)[within].square().mean()))
        outside = max(outside, float((filled - whole)[~within].abs().max()))
    numbers = {"fill error over raw error": sum(left) / sum(raw), "change outside": outside}
    fills = numbers["fill error over raw error"] < 0.5 and outside == 0
    painter: Any = zoo.load("painter-latte")
    ways = [tuple(WAYS)[number % 4] for number in range(clips)]
    fast = [f"the {('red', 'blue')[number // 4 % 2]} square moves {way} fast" for number, way in enumerate(ways)]
    told = {"fast": fast, "slowly": [each.replace("fast", "slowly") for each in fast]}
    lent = {}
    for pace, asked in told.items():
        with watch(painter.model, where="temporal", keep="scores") as seen:
            motion = follow(painter.paint(asked, seed=seed, steps=steps, guidance=1.0))
        lent[pace] = ScoreTransfer(source={site: seen[site] for site in seen.sites})
        numbers[f"pixels gone, {pace}"] = float(motion.distance.mean())
    for pace, other in (("slowly", "fast"), ("fast", "slowly")):
        with steer(painter.model, lent[other]):
            motion = follow(painter.paint(told[pace], seed=seed, steps=steps, guidance=1.0))
        numbers[f"pixels gone, {pace}, logits of {other}"] = float(motion.distance.mean())
        share = np.mean([way == due for way, due in zip(motion.direction, ways, strict=True)])
        numbers[f"direction of the words, {pace}, logits of {other}"] = float(share)
    asked = [each.replace(way, OPPOSITE[way]) for each, way in zip(fast, ways, strict=True)]
    with steer(painter.model, lent["fast"]):
        motion = follow(painter.paint(asked, seed=seed, steps=steps, guidance=1.0))
    followed = np.mean([way == due for way, due in zip(motion.direction, ways, strict=True)])
    numbers["direction of the source, opposite words"] = float(followed)
    gone = {name: value for name, value in numbers.items() if name.startswith("pixels")}
    faster = gone["pixels gone, slowly, logits of fast"] >= 1.2 * gone["pixels gone, slowly"]
    slower = gone["pixels gone, fast, logits of slowly"] < gone["pixels gone, fast"]
    straight = numbers["direction of the words, slowly, logits of fast"] >= 0.8
    holds = fills and faster and slower and straight
    return Verdict(holds=holds, numbers=numbers, reason="" if holds else f"{fills=}, {faster=}, {slower=}, {straight=}")


def _logits(random: np.random.Generator, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (places, 1, frames, frames) of a clip with and without the thing, and the places that it ever covers."""
    way, when = str(random.choice(list(WAYS))), np.arange(6) / 4
    pan = Event(kind="pan", who=CAMERA, start_s=0, stop_s=2, way=way, speed=0.1)
    move = Event(kind="move", who=0, start_s=0, stop_s=2, way=OPPOSITE[way], speed=0.1)
    x, y = random.uniform(0.35, 0.65, 2).tolist()
    thing = Thing(colour="red", shape="circle", place=(x, y), radius=0.15)
    whole = Shot(start_s=0, stop_s=2, things=(thing,), events=(move, pan))
    bare = Shot(start_s=0, stop_s=2, things=(), events=(pan,))
    made = []
    for shot in (whole, bare):
        steps = torch.from_numpy(flow(shot, when, size=(size, size))).double()
        gone = torch.cat([torch.zeros_like(steps[:1]), steps.cumsum(0)]).flatten(1, 2).transpose(0, 1)
        made.append(-torch.cdist(gone, gone).square()[:, None])
    covered = torch.from_numpy((masks(whole, when, size=(size, size)) >= 0).any(0))
    return made[0], made[1], covered
