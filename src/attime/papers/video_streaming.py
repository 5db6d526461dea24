"""VideoStreaming: clips become a few tokens each that know of the clips before, and a question picks the clips to read.

Claim:   a constant number of visual tokens for videos of any length, better accuracy and efficiency on long-video questions, and no
         encoding anew for another question.
Parts:   memory.banks.ClipMemories
Proof:   a world of short shots; asked with a glimpse of one earlier shot, the right clip is among the four chosen as often (within
         three points) after 64 clips as after 8, where four chosen without the question miss more and more of them. Tokens
         to read stay the same, what a clip becomes can depend on the clip before it, and a question makes no pass of the encoder.
Differs: the encoder has random weights, and the glimpse goes through the same encoder as the clips, as the paper's question does:
         found clips are counted, not answers. So the clips are encoded each alone: with propagation, which needs training, keys
         that know what came before miss glimpses that do not, and half of them after 64 clips (the numbers are shown).
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from attime.memory.banks import ClipMemories
from attime.papers.card import Paper, Verdict
from attime.streams.world import World, paint

PAPER = Paper(
    number=136,
    title="Streaming Long Video Understanding with Large Language Models",
    url="https://arxiv.org/abs/2405.16009",
    parts=(ClipMemories,),
)
FULL = {"streams": 16}
FRAMES, FPS, CELLS = 16, 4, 4


@torch.no_grad()
def run(*, streams: int = 3, short: int = 8, long: int = 64, dim: int = 48, seed: int = 0) -> Verdict:
    """Share of glimpses whose clip is chosen, after a short and a long stream; then tokens, passes and propagation."""
    torch.manual_seed(seed)
    widen = torch.randn(3, dim)
    bank = ClipMemories(dim, frames=FRAMES, cells=CELLS, tokens=16, chosen=4, clips=long)
    numbers: dict[str, float] = {}
    passes = list[int]()
    bank.layers[0].register_forward_hook(lambda *_: passes.append(1))
    for bank.propagates in (True, False):
        name = "chosen" if bank.propagates else "chosen, no propagation"
        for clips in (short, long):
            found = list[float]()
            for stream in range(streams):
                features = _clips(seed + stream, clips) @ widen
                kept = bank.write(bank.begin(), features.flatten(0, 1), [n / FPS for n in range(clips * FRAMES)])
                glimpses = [bank.encode(None, clip[FRAMES // 2 :].flatten(1, 2))[1] for clip in features]
                before = len(passes)
                for clip, question in enumerate(glimpses):
                    picked = bank.select(kept, question)
                    found.append(float(clip in [entry.number // FRAMES for entry in picked]))
                numbers["passes per question"] = float(len(passes) - before)
                numbers[f"tokens read, {clips} clips"] = float(len(bank.read(kept).tokens))
            numbers[f"{name}, {clips} clips"] = float(np.mean(found))
    for clips in (short, long):
        numbers[f"latest or evenly spread, {clips} clips"] = bank.chosen / clips
    bank.propagates = True
    first, second = _clips(seed, 2) @ widen
    memory, _ = bank.encode(None, first.flatten(1, 2))
    with_past, _ = bank.encode(memory, second.flatten(1, 2))
    alone, _ = bank.encode(None, second.flatten(1, 2))
    numbers["moved by the clip before"] = float((with_past - alone).norm() / alone.norm())
    names = [f"chosen, no propagation, {clips} clips" for clips in (short, long)]
    drop = numbers[names[0]] - numbers[names[1]]
    missed = [
        name
        for name, good in {
            "flat in length": drop < 0.03,
            "better than without a question": numbers[names[1]] >= 4 * bank.chosen / long,
            "constant tokens": numbers[f"tokens read, {short} clips"] == numbers[f"tokens read, {long} clips"],
            "no encoding anew": numbers["passes per question"] == 0,
            "propagation": numbers["moved by the clip before"] > 0.01,
        }.items()
        if not good
    ]
    return Verdict(holds=not missed, numbers=numbers, reason=f"missed: {', '.join(missed)}" if missed else "")


def _clips(seed: int, clips: int) -> Tensor:
    """Colours above the backdrop (clips 16 4 4 3), a clip per shot of four seconds."""
    world = World(seed=seed, seconds=1e6, shot_s=FRAMES / FPS, events=(1, 2))
    shots = [world.shot(number) for number in range(clips)]
    pixels = [paint(shot, shot.start_s + np.arange(FRAMES) / FPS, size=(16, 16)) - 255 * shot.shade for shot in shots]
    colours = torch.from_numpy(np.concatenate(pixels).astype(np.float32) / 255).permute(0, 3, 1, 2)
    return F.adaptive_avg_pool2d(colours, CELLS).permute(0, 2, 3, 1).unflatten(0, (clips, FRAMES))
