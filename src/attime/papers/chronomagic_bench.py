"""ChronoMagic-Bench: does a generated clip hold together, and does it change as much as it should?

Claim:   two numbers judge time-lapse clips without a reference: coherence, from points followed through the clip (CHScore),
         and change, from how well sentences that say so fit (MTScore).
Parts:   tasks.video.coherence, tasks.video.change, tasks.video.true_tracks, tasks.video.trace,
         tasks.video.faults, zoo.load("painter")
Proof:   of the same shots: clean > one thing blinks > things jump > cuts to another scene, strictly, in the mean with exact
         points and in the median of what `trace` finds in the pixels; coherence is the same to 1e-9 whatever the unit of
         length; a still picture (the single-frame control) is finite and better than all, where the public code gives 0,
         and it changes least. From a still picture to twice the speed, change rises at each of six steps (Spearman 1) for a
         scorer of pixel differences. Clips of the zoo's painter hold together better than with their frames shuffled or
         spliced with another's, and change more where `fast` was asked for than `slowly`.
Differs: exact points or matched patches instead of CoTracker, a scorer of pixels instead of InternVideo2, sentences of our
         own: numbers are not those of the paper's tables. A clip without a missing point has the best score, not 0.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attime import zoo
from attime.papers.card import Paper, Verdict
from attime.streams.world import World, paint
from attime.tasks.video.coherence import CHANGING, change, coherence
from attime.tasks.video.faults import FAULTS, faults
from attime.tasks.video.point_tracks import trace, true_tracks

PAPER = Paper(
    number=215,
    title="ChronoMagic-Bench: A Benchmark for Metamorphic Evaluation of Text-to-Time-lapse Video Generation",
    url="https://arxiv.org/abs/2406.18522",
    parts=(coherence, change, true_tracks, trace, faults),
)
FULL = {"shots": 60, "clips": 64}
SPEEDS = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0)
WHEN = np.arange(16) / 4
MOVES = World(
    seconds=4000, shot_s=4, things=(2, 3), events=(2, 3), kinds=("move",), backdrops=("dots",), radius=(0.1, 0.18)
)


def run(*, shots: int = 12, clips: int = 12, model: str = "painter", seed: int = 0) -> Verdict:
    """Damage shots in three ways, speed them up in six steps, and judge clips of the painter; model="" leaves those out."""
    world, exact, traced, stills, units, changes = replace(MOVES, seed=seed), [], [], [], [], []
    for number in range(shots):
        shot = world.shot(number)
        when = shot.start_s + WHEN
        films = faults(shot, world.shot(shots + number), when, seed=seed + number)
        tracks = [true_tracks(shot, when, shown=film.shown) for film in films.values()]
        exact.append([coherence(place, seen).score for place, seen in tracks])
        units += [coherence(512 * place, seen).score for place, seen in tracks]
        traced.append([coherence(*trace(film.frames, cells=10)).score for film in films.values()])
        stills.append(coherence(*true_tracks(shot, np.full(len(when), shot.start_s))).score)
        paces = [np.repeat(films["clean"].frames[:1], len(when), axis=0)]
        paces += [paint(replace(world, speed=speed).shot(number), when, size=(32, 32)) for speed in SPEEDS[1:]]
        changes.append([change(frames, _unlikeness, sharpness=20) for frames in paces])
    means, medians, rising = np.mean(exact, axis=0), np.median(traced, axis=0), np.mean(changes, axis=0)
    numbers = {f"coherence, {kind}": float(each) for kind, each in zip(FAULTS, means, strict=True)}
    numbers |= {f"coherence from pixels, {kind}": float(each) for kind, each in zip(FAULTS, medians, strict=True)}
    numbers |= {f"change at speed {speed:g}": float(each) for speed, each in zip(SPEEDS, rising, strict=True)}
    numbers |= {"coherence, still": float(np.mean(stills)), "off in pixels": float(np.ptp(units / np.ravel(exact)))}
    ranked = bool((np.diff(means) < 0).all() and (np.diff(medians) < 0).all()) and numbers["off in pixels"] < 1e-9
    still = bool(np.isfinite(stills).all() and (np.array(stills)[:, None] > exact).all())
    rises = bool((np.diff(rising) > 0).all())
    painted = not model or _judged(zoo.load(model), clips=clips, seed=seed, numbers=numbers)
    holds = ranked and still and rises and painted
    return Verdict(holds=holds, numbers=numbers, reason="" if holds else f"{ranked=}, {still=}, {rises=}, {painted=}")


def _judged(painter: Any, *, clips: int, seed: int, numbers: dict[str, float]) -> bool:
    """Whether the painter's clips hold together better than damaged ones, and change more where they are to."""
    slow = [each for each in painter.prompts if each.endswith("slowly")][::5][: clips // 2]
    made = painter.paint([*slow, *(each.replace("slowly", "fast") for each in slow)], seed=seed)
    mixed = made[:, np.random.default_rng(seed).permutation(made.shape[1])]
    spliced = made.copy()
    spliced[:, 2::3] = np.roll(made, 1, axis=0)[:, 2::3]
    for name, films in (("painted", made), ("painted, shuffled", mixed), ("painted, spliced", spliced)):
        scores = [coherence(*trace(frames, reach=1)).score for frames in films]
        numbers[f"coherence from pixels, {name}"] = float(np.median(scores))
    for pace, films in zip(("slowly", "fast"), np.split(made, 2), strict=True):
        numbers[f"change, painted {pace}"] = float(
            np.mean([change(frames, _unlikeness, sharpness=20) for frames in films])
        )
    whole, *damaged = [value for name, value in numbers.items() if name.startswith("coherence from pixels, painted")]
    return whole > max(damaged) and numbers["change, painted fast"] > numbers["change, painted slowly"]


def _unlikeness(frames: NDArray[np.uint8], sentences: Sequence[str]) -> ArrayLike:
    """How unlike the first picture the others are, for sentences of change; the opposite for all others."""
    unlike = float(np.abs(frames / 255 - frames[:1] / 255).mean())
    return [unlike if sentence in CHANGING else -unlike for sentence in sentences]
