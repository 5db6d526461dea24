"""Flash-VStream: a memory of four kinds answers about a stream of any length from a fixed number of tokens.

Claim:   large reductions in latency and memory for questions on streams, and the best answers on VStream-QA.
Parts:   memory.banks.Together of FrameClusters (temporal, retrieved), SemanticSlots (abstract), Latest (spatial)
Proof:   a world of scenes from half a second to a quarter of a minute, as 8 x 8 colours per frame. Three questions: which of two
         colours was in an earlier scene; in which of 64 cells a colour is now (who sees 16 guesses among four); which of two
         was there for longer. The memory of 681 tokens is best on average against the latest frames, evenly spread ones and a
         random sample with as many tokens, in fine and in coarse; weights add up to the frames seen; a frame costs as much
         late as early; of still scenes nearly every one keeps exactly one real frame.
Differs: a fixed reader of colours, no language model; query and key of the abstract memory are untrained. Fine frames are kept one
         per cluster, see FrameClusters. An even sample in coarse with the last frame in fine, not in the paper, is nearly as good.
"""

import time

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from attime.memory.banks import EvenSample, FrameBank, FrameClusters, Kept, Latest, Reservoir, SemanticSlots, Together
from attime.papers.card import Paper, Verdict
from attime.streams.world import COLOURS, Shot, World, paint

PAPER = Paper(
    number=162,
    title="Flash-VStream: Memory-Based Real-Time Understanding for Long Video Streams",
    url="https://arxiv.org/abs/2406.08085",
    parts=(Together, FrameClusters, SemanticSlots, Latest),
)
FULL = {"frames": 5000, "streams": 10}
FPS, CELLS = 4.0, 8
NAMED = torch.stack([torch.tensor(rgb) for name, rgb in COLOURS.items() if name != "white"])


@torch.no_grad()
def run(*, frames: int = 500, streams: int = 4, seed: int = 0) -> Verdict:
    """Answers from the memory and from baselines of as many tokens; then its weights, its cost and its real frames."""
    torch.manual_seed(seed)
    star = Together(Latest(frames=1, cells=8), FrameClusters(), SemanticSlots(3))
    budget, banks = star.budget(CELLS, CELLS), dict[str, FrameBank]({"four kinds": star})
    for kind in (Latest, EvenSample, Reservoir):
        banks |= {f"{kind.__name__}, {n} x {n}": kind(frames=budget // n**2, cells=n) for n in (8, 4)}
    banks["even 4 x 4, last 8 x 8"] = Together(Latest(frames=1, cells=8), EvenSample(frames=38, cells=4))
    right, costs, counted = {name: list[list[float]]() for name in banks}, list[float](), list[float]()
    for stream in range(streams):
        features, when_s, shots = _stream(frames, seed + stream)
        for name, bank in banks.items():
            kept, spent = bank.begin(), []
            for piece, at in zip(features.chunk(10), np.array_split(when_s, 10), strict=True):
                start = time.process_time()
                kept = bank.write(kept, piece, at.tolist())
                spent.append((time.process_time() - start) / len(at))
            right[name].append(_answers(bank, kept, features, shots))
            if bank is star:
                costs.append(min(spent[-3:]) / min(spent[2:5]))
                counted.append(abs(sum(entry.weight for entry in star.entries(kept)) - frames))
    scores = {name: np.nanmean(found, axis=0) for name, found in right.items()}
    numbers = {"cost, last over first": float(np.median(costs)), "weights off by": max(counted)}
    for name, row in scores.items():
        kinds = ("earlier scene", "now", "longer", "mean")
        numbers |= {f"{name}: {kind}": x for kind, x in zip(kinds, (*row.tolist(), float(row.mean())), strict=True)}
    scene = np.repeat(np.arange(25), np.random.default_rng(seed).integers(1, 20, 25))
    stills = torch.randn(25, CELLS, CELLS, 3)[scene] + 0.05 * torch.randn(len(scene), CELLS, CELLS, 3)
    real = FrameClusters().write(FrameClusters().begin(), stills, range(len(scene))).parts["real"]
    found = np.bincount(scene[[entry.number for entry in real]], minlength=25)
    numbers["scenes with one real frame"] = float(np.mean(found == 1))
    best = max(numbers[f"{name}: mean"] for name in list(banks)[1:7])
    wanted = {
        "681 tokens": budget == 681,
        "best on average": numbers["four kinds: mean"] > best,
        "flat cost": numbers["cost, last over first"] < 1.2,
        "weights": numbers["weights off by"] < 1e-6 * frames,
        "one real frame per scene": numbers["scenes with one real frame"] >= 0.9,
    }
    missed = ", ".join(name for name, good in wanted.items() if not good)
    return Verdict(holds=not missed, numbers=numbers, reason=missed and f"missed: {missed}")


def _stream(frames: int, seed: int) -> tuple[Tensor, np.ndarray, list[tuple[float, float, Shot]]]:
    """Colours above the backdrop (time 8 8 3), times, and the shots with their beginnings and ends; lengths differ 30 fold."""
    world = World(seed=seed, seconds=1e6, shot_s=64, events=(4, 8), speed=0.3)
    random, shots, made, count = np.random.default_rng(seed), list[tuple[float, float, Shot]](), list[Tensor](), 0
    while count < frames:
        shot = world.shot(len(shots))
        length = min(frames - count, round(2 * 30 ** random.random()))
        pixels = paint(shot, shot.start_s + np.arange(length) / FPS, size=(32, 32)).astype(np.float32) / 255
        made.append(F.adaptive_avg_pool2d(torch.from_numpy(pixels - shot.shade).permute(0, 3, 1, 2), CELLS))
        shots.append((count / FPS, (count + length) / FPS, shot))
        count += length
    return torch.cat(made).permute(0, 2, 3, 1).contiguous(), np.arange(frames) / FPS, shots


def _answers(bank: FrameBank, kept: Kept, features: Tensor, shots: list[tuple[float, float, Shot]]) -> list[float]:
    """Share of right answers to the three kinds of questions, from what the bank gives to read and nothing else."""

    def credit(tokens: Tensor) -> Tensor:
        """How much of each colour a token shows: its saturation, for the nearest colour."""
        directions = F.normalize(NAMED - NAMED.mean(-1, keepdim=True), dim=-1)
        chroma = tokens - tokens.mean(-1, keepdim=True)
        return F.one_hot((chroma @ directions.T).argmax(-1), len(NAMED)) * chroma.norm(dim=-1, keepdim=True)

    tokens, when_s, weight = bank.read(kept)
    shown, true = credit(tokens), credit(features).mean((1, 2))
    asked: list[list[float]] = [[], [], []]
    for start, stop, _ in shots[:-1]:
        inside = (when_s >= start) & (when_s < stop)
        there = true[round(start * FPS) : round(stop * FPS)].amax(0)
        most = shown[inside].amax(0) if inside.any() else torch.zeros(len(NAMED))
        for one, two in torch.cartesian_prod((there > 0.004).nonzero()[:, 0], (there == 0).nonzero()[:, 0]).tolist():
            asked[0].append(0.5 * (1 + float((most[one] - most[two]).sign())))
    finest = max(bank.entries(kept), key=lambda entry: (entry.when_s, entry.frame.shape[0])).frame
    last, latest, side = credit(features[-1]), credit(finest), len(finest)
    for colour in (last.sum((0, 1)) > 0.3).nonzero()[:, 0].tolist():
        y, x = divmod(int(last[..., colour].argmax()), CELLS)
        guess = divmod(int(latest[..., colour].argmax()), side)
        asked[1].append((guess == (y * side // CELLS, x * side // CELLS)) * (side / CELLS) ** 2)
    total, truly = (shown * weight[:, None]).sum(0), true.sum(0)
    asked[2] = [float(total[one] > total[two]) for one, two in (truly[:, None] > 1.3 * truly).nonzero().tolist()]
    return [float(np.mean(each)) if each else float("nan") for each in asked]
