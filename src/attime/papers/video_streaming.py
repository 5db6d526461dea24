"""VideoStreaming: clips become a few tokens each, and a question picks the clips to read.

Claim:   a question finds its clips by their keys, as well in a long video as in a short one, so that it reads a constant number of
         visual tokens and no clip is encoded anew for another question. (The paper's accuracy is not shown: see Differs.)
Parts:   memory.banks.ClipMemories
Proof:   a world of short shots; asked with a glimpse of one earlier shot, the right clip is among the four chosen as often (within
         three points) after 64 clips as after 8, and after 64 four times as often as among the latest four clips and among
         those of four evenly spread frames. Tokens to read stay the same; but for its own, a question makes no pass of the
         encoder; with propagation, what a clip becomes depends on the clip before it.
Differs: encoders have random weights, others for each stream, and the glimpse goes through the same encoder as the clips, as the
         paper's question does: found clips are counted, not answers. So the clips are encoded each alone: with the paper's
         propagation, which needs training, keys that know what came before miss glimpses that do not, and half of them
         and more after 64 clips (two streams; the number is shown). The mean colour of a clip finds 88 % after 64 clips,
         the encoder's keys 98 %. So they lose 2.3 points between 8 and 64 clips (126 streams), and at one seed of seven, 6,
         the 18 streams of the default lose more than three.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from attime.memory.banks import ClipMemories, EvenSample
from attime.papers.card import Paper, Verdict
from attime.streams.world import World, paint

PAPER = Paper(
    number=136,
    title="Streaming Long Video Understanding with Large Language Models",
    url="https://arxiv.org/abs/2405.16009",
    parts=(ClipMemories,),
)
FULL = {"streams": 24}
FRAMES, FPS, CELLS = 16, 4, 4


@torch.no_grad()
def run(*, streams: int = 18, short: int = 8, long: int = 64, dim: int = 48, seed: int = 0) -> Verdict:
    """Share of glimpses whose clip is chosen, after a short and a long part of a stream; tokens, passes and propagation."""
    torch.manual_seed(seed)
    found, tokens = dict[str, list[float]](), {short: set[int](), long: set[int]()}
    again, moved = list[int](), list[float]()
    for stream in range(streams):
        widen, passes = torch.randn(3, dim), list[int]()
        bank = ClipMemories(dim, frames=FRAMES, cells=CELLS, tokens=16, chosen=4, clips=long)
        bank.layers[0].register_forward_hook(lambda *_, into=passes: into.append(1))
        spread, clips = EvenSample(frames=bank.chosen, cells=1), _clips(seed * streams + stream, long)
        features, half = clips @ widen, clips[:, FRAMES // 2 :]
        means = [F.normalize(each.mean((1, 2, 3)), dim=-1) for each in (clips, half)]
        questions = bank.encode(None, (half @ widen).flatten(2, 3))[1]
        memory, _ = bank.encode(None, features[0].flatten(1, 2))
        alone, after = (bank.encode(before, features[1].flatten(1, 2))[0] for before in (None, memory))
        moved.append(float((after - alone).norm() / alone.norm()))
        for bank.propagates in (False, True)[: 1 + (stream < 2)]:
            name = "chosen, propagation" if bank.propagates else "chosen"
            kept, even, start = bank.begin(), spread.begin(), 0
            for stop in (short, long):
                frames = features[start:stop].flatten(0, 1)
                when_s = [n / FPS for n in range(start * FRAMES, stop * FRAMES)]
                kept, even, start = bank.write(kept, frames, when_s), spread.write(even, frames, when_s), stop
                for clip, question in enumerate(questions[:stop]):
                    before = len(passes)
                    picked = bank.select(kept, question)
                    again.append(len(passes) - before)
                    tokens[stop].add(sum(entry.frame[..., 0].numel() for entry in picked))
                    read = {name: picked, "latest": bank.entries(kept), "spread": spread.entries(even)}
                    rows = {each: {entry.number // FRAMES for entry in entries} for each, entries in read.items()}
                    rows["by mean colour"] = set((means[0][:stop] @ means[1][clip]).topk(bank.chosen).indices.tolist())
                    for each, there in rows.items():
                        found.setdefault(f"{each}, {stop} clips", []).append(clip in there)
    numbers = {name: float(np.mean(each)) for name, each in found.items()}
    numbers |= {"passes beside the question's own": float(max(again)), "moved by the clip before": min(moved)}
    numbers |= {f"tokens read, {clips} clips": float(max(each)) for clips, each in tokens.items()}
    without = max(numbers[f"{name}, {long} clips"] for name in ("latest", "spread"))
    missed = [
        name
        for name, good in {
            "flat in length": numbers[f"chosen, {short} clips"] - numbers[f"chosen, {long} clips"] < 0.03,
            "better than without a question": numbers[f"chosen, {long} clips"] >= 4 * without,
            "constant tokens": len(tokens[short] | tokens[long]) == 1,
            "no encoding anew": max(again) == 0,
            "propagation": min(moved) > 0.01,
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
