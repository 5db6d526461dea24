r"""Clips without end: a queue of frames, each noisier than the one before it, from which a clean one leaves at every step.

    z_i at level t_i, t_1 < ... < t_n     ->  all one level down  ->  z_1 is done, z_n enters with noise
    entering:  low(z_last) + (1 - low)(noise)        low: Gaussian low-pass over the places of a frame

Source:  FIFO-Diffusion, arXiv 2405.11473 (queue, lookahead); Ouroboros-Diffusion, arXiv 2501.09019: coherent tail latent
         sampling (`coherent_tail`, cutoff .25) and self-recurrent guidance (`pull` towards what `features` found in clean frames).
Names:   our `levels` are t, from 0 to 1; `predict` says what the clean frames are; `window` is what a model sees at once.
Cost:    one call of the model per window and frame, 2 n / window windows with lookahead; guidance adds the way back.
Differs: levels of flow matching, z = (1 - t) x + t noise, by Euler steps; other schedules bring their own `move`. Features of the
         bank are any function of clean frames, where the paper takes those of its subject inside the model.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from attime.errors import AttimeError

__all__ = ["coherent_tail", "frame_queue"]

Clip = Float[Tensor, "batch channels time height width"]
Levels = Float[Tensor, " time"]


def coherent_tail(last: Clip, noise: Clip, *, cutoff: float = 0.25) -> Clip:
    """What enters a queue behind `last`: its slow waves over a frame, the fast ones of the noise. A cutoff of 0 is the noise."""
    if cutoff < 0:
        raise AttimeError(f"coherent_tail needs a cutoff >= 0, as a share of the fastest wave; got {cutoff}.")
    if cutoff == 0:
        return noise
    high, wide = (torch.fft.fftfreq(size, device=noise.device) * 2 for size in noise.shape[-2:])
    low = torch.exp(-(high[:, None] ** 2 + wide**2) / (2 * cutoff**2))
    waves = torch.fft.fft2(last) * low + torch.fft.fft2(noise) * (1 - low)
    return torch.fft.ifft2(waves).real.to(noise.dtype)


def frame_queue(
    predict: Callable[[Clip, Levels], Clip],
    queue: Sequence[Clip],
    levels: Sequence[float],
    *,
    window: int,
    draw: Callable[[], Clip],
    tail: Callable[[Clip, Clip], Clip] | None = None,
    move: Callable[[Clip, Clip, Levels, Levels], Clip] | None = None,
    features: Callable[[Clip], Tensor] | None = None,
    pull: float = 0.0,
    memory: float = 0.9,
) -> Iterator[Clip]:
    """Clean stretches of a clip, one per step, for as long as they are asked for.

    `queue` holds stretches of frames at `levels`, the head first; a level 0 comes before them. `predict(clip, levels)` is called
    with `window` stretches and the level of each of their frames. `draw()` makes noise as large as a stretch, and `tail` what
    enters from the last one and that noise. With `pull`, every window goes down the gradient of the squared distance between its
    `features` (batch, frames, ...) and their moving mean over what has left the queue.
    """
    queue, half = list(queue), max(1, window // 2)
    if len(levels) != len(queue) or any(one >= two for one, two in zip([0.0, *levels], levels, strict=False)):
        raise AttimeError(
            f"frame_queue needs a level above 0 for each stretch of the queue, rising; got {len(levels)} levels for {len(queue)}."
        )
    if len(queue) < window or (len(queue) - window) % half:
        raise AttimeError(
            f"frame_queue needs a queue of a window and any number of halves; got {len(queue)} for window={window}."
        )
    move = move or _euler
    frames = queue[0].shape[2]
    above = torch.tensor(list(levels), device=queue[0].device).repeat_interleave(frames)
    below = torch.cat([torch.zeros_like(above[:frames]), above[:-frames]])
    bank: Tensor | None = None
    while True:
        now, made = torch.cat(queue, dim=2), list[Clip]()
        for start in range(0, len(queue) - window + 1, half):
            part = slice(start * frames, (start + window) * frames)
            seen = now[:, :, part]
            if pull and features is not None and bank is not None:
                seen = _pulled(predict, seen, above[part], features, bank, pull)
            lower = move(seen, predict(seen, above[part]), above[part], below[part])
            made.append(lower if start == 0 else lower[:, :, -half * frames :])
        head, *queue = torch.cat(made, dim=2).split(frames, dim=2)
        if pull and features is not None:
            found = features(head).mean(1, keepdim=True).detach()
            bank = found if bank is None else memory * bank + (1 - memory) * found
        noise = draw()
        queue.append(noise if tail is None else tail(queue[-1], noise))
        yield head


def _euler(now: Clip, clean: Clip, above: Levels, below: Levels) -> Clip:
    """From one level of noise to a lower one, on the line to the clean frames."""
    share = (below / above)[:, None, None]
    return clean + share * (now - clean)


def _pulled(
    predict: Callable[[Clip, Levels], Clip],
    seen: Clip,
    above: Levels,
    features: Callable[[Clip], Tensor],
    bank: Tensor,
    pull: float,
) -> Clip:
    """The window, moved so that what it will be has more of the features of what has been."""
    with torch.enable_grad():
        moved = seen.detach().requires_grad_()
        energy = ((features(predict(moved, above)) - bank) ** 2).flatten(1).sum()
        (gradient,) = torch.autograd.grad(energy, [moved])
    return seen - pull * gradient
