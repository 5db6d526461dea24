"""Flow matching on clean clips: the loss a painter is trained with, the walk from noise to a clip, step by step, and the way back.

A clip x and noise e are mixed as (1 - s) x + s e; the model sees the mixture and 1000 s and tells x. Shares of noise s are
shifted towards one, because where a thing goes is decided while it can hardly be seen.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

__all__ = ["SHIFT", "Step", "invert", "loss", "walk"]

Model = Callable[..., Any]

SHIFT = 4.0
"""Odds of noise are multiplied by this, in training and in sampling."""


def loss(model: nn.Module, clips: Tensor, words: Tensor) -> Tensor:
    """Mean squared error of the model's clean clips (batch, channels, time, height, width), at shares of noise spread evenly."""
    batch = len(clips)
    even = (torch.randperm(batch, device=clips.device) + torch.rand(batch, device=clips.device)) / batch
    share = (SHIFT * even / (1 + (SHIFT - 1) * even)).clamp(min=1e-3)
    blend = share[:, None, None, None, None]
    noisy = (1 - blend) * clips + blend * torch.randn_like(clips)
    told = model(hidden_states=noisy, timestep=1000 * share, encoder_hidden_states=words, return_dict=False)[0]
    return nn.functional.mse_loss(told, clips)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a walk that has been made."""

    number: int
    share: float
    """The share of noise before the step."""
    latents: Tensor
    """(batch, channels, time, height, width) after the step."""
    clean: Tensor
    """What the model took for the clean clip in this step, guidance included."""


def walk(
    model: Model,
    noise: Tensor,
    words: Tensor,
    nothing: Tensor,
    *,
    steps: int,
    guidance: float,
    callback: Callable[[int, Tensor], Tensor | None] | None = None,
) -> Iterator[Step]:
    """Euler steps from `noise` to a clip. Each calls the model once, on [without words, with words] where guidance is not 1.

    `callback(number, latents)` is called before the model is, and may return other latents.
    """
    scheduler, latents = _schedule(steps, noise), noise
    for number, timestep in enumerate(scheduler.timesteps):
        changed = callback(number, latents) if callback is not None else None
        latents = latents if changed is None else changed
        clean = _clean(model, latents, timestep, words, nothing, guidance)
        share = scheduler.sigmas[number]
        latents = scheduler.step((latents - clean) / share, timestep, latents, return_dict=False)[0]
        yield Step(number=number, share=float(share), latents=latents, clean=clean)


def invert(
    model: Model,
    clips: Tensor,
    words: Tensor,
    nothing: Tensor,
    *,
    noise: Tensor,
    steps: int,
    guidance: float,
    rounds: int = 10,
) -> Tensor:
    """Noise from which `walk` comes to `clips`, as far as the model can: what it makes of them with the least noise added.

    Many noises lead to one clean clip, so the last step is undone by adding the least share of `noise`; each earlier one by
    solving for what would have been stepped from, by descent with Barzilai-Borwein steps: `(steps - 1) * rounds` calls.
    """
    scheduler = _schedule(steps, clips)
    shares = scheduler.sigmas
    latents = (1 - shares[-2]) * clips + shares[-2] * noise
    for number in reversed(range(steps - 1)):
        kept = shares[number + 1] / shares[number]
        before, pace, last = latents, torch.ones_like(latents[:, :1, :1, :1, :1]), None
        for _ in range(rounds):
            clean = _clean(model, before, scheduler.timesteps[number], words, nothing, guidance)
            off = kept * before + (1 - kept) * clean - latents
            if last is not None:
                moved, change = before - last[0], off - last[1]
                dot, size = ((change * each).sum((1, 2, 3, 4), keepdim=True) for each in (moved, change))
                pace = (dot / size.clamp(min=1e-12)).clamp(min=0.05, max=1 / kept)
            last = before, off
            before = before - pace * off
        latents = before
    return latents


def _schedule(steps: int, latents: Tensor) -> Any:
    scheduler: Any = FlowMatchEulerDiscreteScheduler(shift=SHIFT)
    scheduler.set_timesteps(steps, device=latents.device)
    return scheduler


def _clean(model: Model, latents: Tensor, timestep: Tensor, words: Tensor, nothing: Tensor, guidance: float) -> Tensor:
    """What the model takes for the clean clips: one call, on [without words, with words] where guidance is not 1."""
    guided = guidance != 1.0
    seen = torch.cat([latents, latents]) if guided else latents
    told = torch.cat([nothing, words]) if guided else words
    with torch.no_grad():
        clean = model(
            hidden_states=seen, timestep=timestep.expand(len(seen)), encoder_hidden_states=told, return_dict=False
        )[0]
    if guided:
        without, clean = clean.chunk(2)
        clean = without + guidance * (clean - without)
    return clean
