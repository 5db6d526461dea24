"""Painters: small text-to-video diffusion models of the classes of Wan and Latte, trained on clips of the world.

They know the world's sentences about one thing that moves. The free ones are not told how fast, and half of the clips they
were shown rest: on them a control that changes how much moves can be seen to work.
"""

from collections.abc import Callable
from typing import Any, final

import numpy as np
from diffusers.models.transformers.latte_transformer_3d import LatteTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import nn

from attime.streams.world import WAYS
from attime.streams.world.follow import follow
from attime.zoo.contract import Goal
from attime.zoo.painting import FRAMES, SIZE, Painter, share
from attime.zoo.sentences import Sentences
from attime.zoo.stretched import Stretched

__all__ = ["FreeLattePainter", "FreeWanPainter", "LattePainter", "WanPainter"]


class Told(Painter):
    """Painters whose sentences say how fast."""

    sentences = Sentences()
    goals = (
        Goal(metric="direction", better="higher", bound=0.9),
        Goal(metric="speed_error", better="lower", bound=0.1),
        Goal(metric="colour", better="higher", bound=0.9),
    )

    def measure(self, *, seed: int, samples: int = 80) -> dict[str, float]:
        """Shares of samples with the asked direction, colour and shape; `speed_error` is, for the worse of the two paces,
        how far the mean of (distance gone in the asked direction / asked distance) is from one, and `speed_error_each` the
        median over samples of how far that ratio is from one; mean `jitter` in pixels; `area_error` against drawn clips."""
        prompts, clips = self._sampled(seed, samples)
        asked = [self.sentences.parse(prompt) for prompt in prompts]
        seen = follow(clips)
        ways = np.array([WAYS[each.way] for each in asked])
        paces = np.array([each.pace for each in asked])
        due = np.array([self.sentences.speed(each.pace) for each in asked]) * SIZE * (FRAMES - 1)
        ratio = (seen.displacement * ways).sum(axis=1) / due
        return {
            "direction": share(seen.direction, [each.way for each in asked]),
            "speed_error": max(abs(float(ratio[paces == pace].mean()) - 1) for pace in set(paces.tolist())),
            "speed_error_each": float(np.median(abs(ratio - 1))),
            **self._looks(seen, prompts, seed),
        }


class Free(Painter):
    """Painters that are not told how fast. They paint without guidance, which would favour motion."""

    sentences = Sentences(colours=("red", "green", "blue", "yellow"), shapes=("square", "circle"), paces=())
    guidance = 1.0
    goals = (
        Goal(metric="moving", better="higher", bound=0.2),
        Goal(metric="moving", better="lower", bound=0.8),
        Goal(metric="direction", better="higher", bound=0.8),
        Goal(metric="colour", better="higher", bound=0.9),
    )

    def measure(self, *, seed: int, samples: int = 80) -> dict[str, float]:
        """`moving` is the share of samples that move, `direction` the share of those that go where they were asked to;
        mean and standard deviation of the distance gone, in pixels; the rest as for the painters that are told."""
        prompts, clips = self._sampled(seed, samples)
        asked = [self.sentences.parse(prompt) for prompt in prompts]
        seen = follow(clips)
        moving = [way != "still" for way in seen.direction]
        right = [way == each.way for way, each in zip(seen.direction, asked, strict=True)]
        return {
            "moving": float(np.mean(moving)),
            "direction": float(np.sum(right) / max(1, np.sum(moving))),
            "distance": float(seen.distance.mean()),
            "distance_spread": float(seen.distance.std()),
            **self._looks(seen, prompts, seed),
        }


class Wan(Painter):
    """Attention over space and time jointly; clips may have any even number of frames."""

    lengths = range(2, 257, 2)

    @classmethod
    def build(cls) -> nn.Module:
        return WanTransformer3DModel(
            patch_size=(2, 4, 4),
            num_attention_heads=3,
            attention_head_dim=32,
            in_channels=3,
            out_channels=3,
            text_dim=cls.sentences.width,
            freq_dim=256,
            ffn_dim=256,
            num_layers=4,
            rope_max_seq_len=128,
        )


class Latte(Painter):
    """Attention over space and attention over time in turn; longer clips are stretched ones: all that happens takes longer."""

    lengths = range(FRAMES, 8 * FRAMES + 1)
    batch = 24

    @classmethod
    def build(cls) -> nn.Module:
        return LatteTransformer3DModel(
            num_attention_heads=4,
            attention_head_dim=16,
            in_channels=3,
            num_layers=4,
            cross_attention_dim=64,
            attention_bias=True,
            sample_size=SIZE,
            patch_size=4,
            activation_fn="gelu-approximate",
            num_embeds_ada_norm=1000,
            norm_type="ada_norm_single",
            norm_elementwise_affine=False,
            norm_eps=1e-6,
            caption_channels=cls.sentences.width,
            video_length=FRAMES,
        )

    def at(self, frames: int) -> Callable[..., Any]:
        super().at(frames)
        return Stretched(self.model)


@final
class WanPainter(Wan, Told):
    """Wan's class, told how fast."""

    name = "painter"
    about = (
        "WanTransformer3DModel: paints clips of one moving thing from a sentence that says what, where to and how fast"
    )
    goals = (*Told.goals, Goal(metric="shape", better="higher", bound=0.8))
    steps = 3000


@final
class LattePainter(Latte, Told):
    """Latte's class, told how fast."""

    name = "painter-latte"
    about = "LatteTransformer3DModel: paints clips of one moving thing from a sentence that says what, where to and how fast"
    steps = 2600


@final
class FreeWanPainter(Wan, Free):
    """Wan's class; whether anything moves is left to chance."""

    name = "painter-free"
    about = "WanTransformer3DModel: paints clips of one thing that moves or rests as chance has it"
    steps = 2000


@final
class FreeLattePainter(Latte, Free):
    """Latte's class; whether anything moves is left to chance."""

    name = "painter-latte-free"
    about = "LatteTransformer3DModel: paints clips of one thing that moves or rests as chance has it"
    goals = (
        *(goal for goal in Free.goals if goal.metric != "direction"),
        Goal(metric="direction", better="higher", bound=0.5),  # by chance a quarter; where to is learnt last
    )
    steps = 2000
