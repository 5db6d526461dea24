"""Ouroboros-Diffusion: a long clip whose subject stays, out of a queue of frames.

Claim:   first-in-first-out diffusion makes clips of any length with a model of short ones, but what enters the queue as pure
         noise does not fit what went before. Slow waves of the last frame at the tail, attention to the subject in other frames,
         and guidance towards what has left the queue keep subject and motion consistent.
Parts:   control.diffusion.frame_queue, control.diffusion.coherent_tail, control.diffusion.SubjectKeys, zoo.load("painter-free")
Proof:   the zoo's painter of eight frames paints clips of four times that length. With the coherent tail the step from frame to
         frame falls by at least 20 % against the plain queue, the asked colour is there at least as often, and the size of the
         thing drifts less; guidance added to it keeps that. A cutoff of 0 is the plain queue, bit for bit. That all tokens of all
         other frames as subject are attention over the whole clip is checked in the tests.
Differs: the cutoff is .5 by default: pictures of 16 x 16 have few waves. The painter was trained with one level of noise per clip
         and takes two frames at a time. Keys of the subject from the window before have its places in time and do not help
         in joint attention: their number is shown. The bank holds colours of what stands out, not features inside the model. What
         is smoother also moves less: how much of a step was wanted motion is not told apart (things would leave the picture).
"""

from contextlib import nullcontext
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attime import zoo
from attime.control.diffusion import SubjectKeys, coherent_tail, frame_queue
from attime.hub import steer
from attime.papers.card import Paper, Verdict
from attime.streams.world.follow import follow
from attime.zoo.flow_matching import SHIFT
from attime.zoo.painting import FRAMES, decoded

PAPER = Paper(
    number=117,
    title="Ouroboros-Diffusion: Exploring Consistent Content Generation in Tuning-free Long Video Diffusion",
    url="https://arxiv.org/abs/2501.09019",
    parts=(frame_queue, coherent_tail, SubjectKeys),
)
FULL = {"clips": 16, "queue": 16, "times": 8}
WINDOW, PAIR = FRAMES // 2, 2


def run(
    *, clips: int = 4, queue: int = 8, times: int = 4, cutoff: float = 0.5, pull: float = 2.0, seed: int = 0
) -> Verdict:
    """Clips of `times` times eight frames by a queue of `queue` pairs of frames: plain, and with the paper's additions."""
    painter: Any = zoo.load("painter-free")
    prompts = np.random.default_rng(seed).choice(painter.prompts, clips).tolist()
    words = painter.sentences.encode(prompts)
    even = torch.arange(1, queue + 1) / queue
    levels = (SHIFT * even / (1 + (SHIFT - 1) * even)).tolist()
    *_, first = painter.walk(prompts, seed=seed, steps=queue)

    def predict(now: Tensor, above: Tensor) -> Tensor:
        when = 1000 * above[::PAIR].repeat_interleave(16).expand(clips, -1)
        return painter.model(hidden_states=now, timestep=when, encoder_hidden_states=words, return_dict=False)[0]

    def made(pairs: int, *, control: SubjectKeys | None = None, **options: Any) -> Tensor:
        random = torch.Generator().manual_seed(seed)

        def draw() -> Tensor:
            return torch.randn(clips, 3, PAIR, *first.latents.shape[-2:], generator=random)

        begun = [max(0, number - queue + WINDOW) * PAIR for number in range(queue)]
        start = [
            (1 - t) * first.latents[:, :, at : at + PAIR] + t * draw() for at, t in zip(begun, levels, strict=True)
        ]
        out = frame_queue(predict, start, levels, window=WINDOW, draw=draw, **options)
        with torch.no_grad(), steer(painter.model, control) if control else nullcontext():
            return torch.cat(list(islice(out, queue - WINDOW, queue - WINDOW + pairs)), dim=2)

    def tail(last: Tensor, noise: Tensor) -> Tensor:
        return coherent_tail(last, noise, cutoff=cutoff)

    pairs = times * WINDOW
    films = {
        "plain queue": made(pairs),
        "coherent tail": made(pairs, tail=tail),
        "tail and guidance": made(pairs, tail=tail, features=_colours, pull=pull),
        "subject keys": made(pairs, control=SubjectKeys(words=(1, 2))),
    }
    numbers = {}
    for name, film in films.items():
        _judge(name, decoded(film), [painter.sentences.parse(each).colour for each in prompts], numbers)
    same = torch.equal(made(queue, tail=lambda last, noise: coherent_tail(last, noise, cutoff=0)), made(queue))
    plain, ours, guided = (
        [numbers[f"{what}, {name}"] for what in ("step in pixels", "asked colour", "drift of size")]
        for name in list(films)[:3]
    )
    smooth = ours[0] <= 0.8 * plain[0] and guided[0] <= 0.8 * plain[0]
    stays = ours[1] >= plain[1] and guided[1] >= plain[1] and ours[2] <= plain[2]
    holds = same and smooth and stays
    return Verdict(holds=holds, numbers=numbers, reason="" if holds else f"{same=}, {smooth=}, {stays=}")


def _colours(clean: Tensor) -> Tensor:
    """(batch, frames, channels): what stands out of each frame, mean over its places."""
    weight = (clean**2).sum(1, keepdim=True)
    return ((weight * clean).sum((-1, -2)) / weight.sum((-1, -2)).clamp(min=1e-6)).transpose(1, 2)


def _judge(name: str, film: Any, colours: list[str], numbers: dict[str, float]) -> None:
    """The world's measurement of each pair of frames, and from frame to frame."""
    seen = [follow(film[:, at : at + PAIR]) for at in range(0, film.shape[1], PAIR)]
    path, size = np.concatenate([each.path for each in seen], axis=1), np.array([each.area for each in seen])
    numbers[f"step in pixels, {name}"] = float(np.linalg.norm(np.diff(path, axis=1), axis=-1).mean())
    numbers[f"asked colour, {name}"] = float(np.mean([np.array(each.colour) == colours for each in seen]))
    numbers[f"drift of size, {name}"] = float((size.std(0) / size.mean(0)).mean())
    numbers[f"change of pixels, {name}"] = float(np.abs(np.diff(film.astype(float), axis=1)).mean())
