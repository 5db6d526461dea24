"""What every painter does: paint clips for sentences, step by step if asked to, and learn that from clips of the world."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attime.errors import AttimeError
from attime.streams.world.follow import Motion, follow
from attime.zoo.contract import Log, Pretrained
from attime.zoo.flow_matching import Step, invert, loss, walk
from attime.zoo.orthogonal import descend_orthogonally
from attime.zoo.sentences import Sentences

__all__ = ["FRAMES", "SIZE", "Painter", "decoded", "encoded", "share"]

FRAMES, SIZE = 8, 16
SHADE = 0.15
DROPPED = 0.1
"""Share of training clips without words, for guidance."""


class Painter(Pretrained):
    """Text to clips of eight frames of 16 by 16 pixels, in the words of `sentences`."""

    data = "clips of attime's own world, drawn while training"
    sentences: ClassVar[Sentences]
    guidance: ClassVar[float] = 1.5
    batch: ClassVar[int] = 48
    matrix_rate: ClassVar[float] = 5e-3
    other_rate: ClassVar[float] = 3e-3
    lengths: ClassVar[range]
    """The numbers of frames that it can paint."""

    @property
    def prompts(self) -> Sequence[str]:
        """Every sentence that it understands."""
        return self.sentences.all

    def paint(
        self,
        prompts: str | Sequence[str],
        *,
        seed: int = 0,
        steps: int = 20,
        guidance: float | None = None,
        frames: int = FRAMES,
        noise: Tensor | None = None,
        callback: Callable[[int, Tensor], Tensor | None] | None = None,
    ) -> NDArray[np.uint8]:
        """Clips (batch, time, height, width, 3) of bytes, one for each prompt; the arguments are those of `walk`."""
        last = None
        for step in self.walk(
            prompts, seed=seed, steps=steps, guidance=guidance, frames=frames, noise=noise, callback=callback
        ):
            last = step
        assert last is not None
        return decoded(last.latents)

    def walk(
        self,
        prompts: str | Sequence[str],
        *,
        seed: int = 0,
        steps: int = 20,
        guidance: float | None = None,
        frames: int = FRAMES,
        noise: Tensor | None = None,
        callback: Callable[[int, Tensor], Tensor | None] | None = None,
    ) -> Iterator[Step]:
        """The steps from noise to clips, one at a time: change the model between two of them, and the next one feels it.

        `noise` (batch, 3, time, 16, 16) is drawn from `seed` unless it is given; `callback(number, latents)` is called
        before each step and may return other latents. An empty prompt asks for nothing in particular.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        if not prompts or steps < 1:
            raise AttimeError(
                f"a painter needs a prompt and a step or more; got {len(prompts)} prompts, steps={steps}."
            )
        if noise is None:
            noise = torch.randn(len(prompts), 3, frames, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
        if noise.ndim != 5 or len(noise) != len(prompts) or noise.shape[1] != 3:
            raise AttimeError(
                f"a painter needs noise (batch, 3, time, height, width) for {len(prompts)} prompts; got {tuple(noise.shape)}."
            )
        return walk(
            self.at(noise.shape[2]),
            noise.to(self.device),
            self.sentences.encode(prompts, device=self.device),
            self.sentences.encode([""] * len(prompts), device=self.device),
            steps=steps,
            guidance=self.guidance if guidance is None else guidance,
            callback=callback,
        )

    def invert(
        self,
        clips: NDArray[np.uint8],
        prompts: str | Sequence[str],
        *,
        seed: int = 0,
        steps: int = 20,
        guidance: float | None = None,
        rounds: int = 10,
    ) -> Tensor:
        """Noise from which `paint`, with the same prompts, steps and guidance, comes back to these clips; see
        `flow_matching.invert`. How near it comes is how well the model knows such clips."""
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        if clips.ndim != 5 or len(clips) != len(prompts) or clips.shape[-1] != 3 or steps < 2:
            raise AttimeError(
                f"invert needs clips (batch, time, height, width, 3), a prompt for each and steps >= 2; got "
                f"{'x'.join(map(str, clips.shape))}, {len(prompts)} prompts and steps={steps}."
            )
        latents = encoded(clips).to(self.device)
        return invert(
            self.at(clips.shape[1]),
            latents,
            self.sentences.encode(prompts, device=self.device),
            self.sentences.encode([""] * len(prompts), device=self.device),
            noise=torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed)).to(latents),
            steps=steps,
            guidance=self.guidance if guidance is None else guidance,
            rounds=rounds,
        )

    def at(self, frames: int) -> Callable[..., Any]:
        """The model as it is called for so many frames, or an AttimeError."""
        if frames not in self.lengths:
            raise AttimeError(
                f"{type(self).__name__} paints {self.lengths[0]} to {self.lengths[-1]} frames in steps of "
                f"{self.lengths.step}; got {frames} frames."
            )
        return self.model

    @classmethod
    def fit(cls, model: nn.Module, *, steps: int, seed: int, log: Log) -> None:
        device = next(model.parameters()).device
        torch.manual_seed(seed)

        def loss_at(step: int) -> Tensor:
            random = np.random.default_rng([seed, step])
            asked = random.choice(cls.sentences.all, cls.batch).tolist()
            clips = encoded(cls.sentences.draw(asked, random=random, frames=FRAMES, size=SIZE)).to(device)
            told = [
                prompt if keep else "" for prompt, keep in zip(asked, random.random(cls.batch) >= DROPPED, strict=True)
            ]
            return loss(model, clips, cls.sentences.encode(told, device=device))

        def watch() -> str:
            numbers = cls(model).measure(seed=seed, samples=32)
            model.train()
            return "  ".join(f"{name} {value:.2f}" for name, value in numbers.items())

        descend_orthogonally(
            model,
            loss_at,
            steps=steps,
            matrix_rate=cls.matrix_rate,
            other_rate=cls.other_rate,
            log=log,
            watch=watch,
        )

    @abstractmethod
    def measure(self, *, seed: int, samples: int = 80) -> dict[str, float]: ...

    def _sampled(self, seed: int, samples: int) -> tuple[list[str], NDArray[np.uint8]]:
        """Random prompts and what is painted for them."""
        random = np.random.default_rng([seed, 7])
        prompts = random.choice(self.prompts, samples).tolist()
        return prompts, self.paint(prompts, seed=seed)

    def _looks(self, seen: Motion, prompts: Sequence[str], seed: int) -> dict[str, float]:
        asked = [self.sentences.parse(prompt) for prompt in prompts]
        random = np.random.default_rng([seed, 8])
        drawn = follow(self.sentences.draw(prompts, random=random, frames=FRAMES, size=SIZE))
        return {
            "colour": share(seen.colour, [each.colour for each in asked]),
            "shape": share(seen.shape, [each.shape for each in asked]),
            "jitter": float(seen.jitter.mean()),
            "area_error": abs(float(seen.area.mean() / drawn.area.mean()) - 1),
        }


def encoded(clips: NDArray[np.uint8]) -> Tensor:
    """Bytes (batch, time, height, width, 3) as what the models see: (batch, 3, time, height, width), the backdrop at zero."""
    return ((torch.from_numpy(clips).float() / 255 - SHADE) * 2).permute(0, 4, 1, 2, 3).contiguous()


def decoded(latents: Tensor) -> NDArray[np.uint8]:
    """The way back."""
    pixels = (latents.permute(0, 2, 3, 4, 1) / 2 + SHADE).clamp(0, 1) * 255
    return pixels.round().to(torch.uint8).cpu().numpy()


def share(found: Sequence[str], asked: Sequence[str]) -> float:
    """How many of the words found are the words asked for, as a share."""
    return float(np.mean([one == other for one, other in zip(found, asked, strict=True)]))
