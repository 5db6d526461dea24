"""A training loop for small transformers that must learn much in little time: Muon for the matrices, AdamW for the rest.

Muon makes the update of a matrix nearly orthogonal, so that directions with small gradients, such as those by which few
words steer much noise, are learnt as soon as the others.
"""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from attime.zoo.contract import Log

__all__ = ["descend_orthogonally"]

SMALLEST = 32
"""Matrices with a side shorter than this are left to AdamW."""


def descend_orthogonally(
    model: nn.Module,
    loss_at: Callable[[int], Tensor],
    *,
    steps: int,
    matrix_rate: float,
    other_rate: float,
    log: Log,
    watch: Callable[[], str],
    warmup: int = 50,
    every: int = 250,
) -> None:
    """Minimise `loss_at(step)`, a scalar on fresh data each step; `watch` adds words to the line of progress.

    Both rates rise over `warmup` steps, stay, and fall in a straight line to nought over the last two fifths.
    """
    matrices = [weight for weight in model.parameters() if weight.ndim == 2 and min(weight.shape) >= SMALLEST]
    chosen = {id(weight) for weight in matrices}
    others = [weight for weight in model.parameters() if id(weight) not in chosen]
    optimisers = (
        torch.optim.Muon(matrices, lr=matrix_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=other_rate, betas=(0.9, 0.98), weight_decay=0.0),
    )
    start, losses = time.process_time(), list[float]()
    for step in range(steps):
        part = min((step + 1) / warmup, 1.0, (steps - step) / (0.4 * steps))
        for optimiser, rate in zip(optimisers, (matrix_rate, other_rate), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate * part
        loss = loss_at(step)
        model.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        losses.append(float(loss.detach()))
        if step % every == every - 1 or step == steps - 1:
            mean = math.fsum(losses) / len(losses)
            losses.clear()
            log(f"step {step + 1:>6} of {steps}  loss {mean:.4f}  {time.process_time() - start:.0f} CPU s  {watch()}")
