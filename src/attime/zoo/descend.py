"""The one training loop of the zoo: AdamW (and Muon), warm-up, cosine decay, clipped gradients, a line of progress now and then."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from attime.errors import AttimeError
from attime.zoo.contract import Log

__all__ = ["descend"]


def descend(
    model: nn.Module,
    loss_at: Callable[[int], Tensor],
    *,
    steps: int,
    learning_rate: float,
    log: Log,
    warmup: int = 50,
    weight_decay: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.98),
    muon: str | tuple[str, ...] = (),
    muon_rate: float | None = None,
    watch: Callable[[], str] | None = None,
    every: int = 200,
) -> None:
    """Minimise `loss_at(step)`, a scalar on fresh data each step; `watch` may add words to the line of progress.

    With `muon`, the matrices whose names hold that word (or one of them), such as "layers.", are stepped by Muon, at the
    same rate or at `muon_rate`.
    """
    chosen = (muon,) if isinstance(muon, str) else muon
    turned = [
        weight for name, weight in model.named_parameters() if weight.ndim == 2 and any(word in name for word in chosen)
    ]
    if muon and not turned:
        raise AttimeError(
            f"descend steps by Muon the matrices whose names hold {muon!r}; {type(model).__name__} has none."
        )
    apart = {id(weight) for weight in turned}
    flat = [weight for weight in model.parameters() if weight.ndim < 2]
    full = [weight for weight in model.parameters() if weight.ndim >= 2 and id(weight) not in apart]
    groups = [{"params": full, "weight_decay": weight_decay}, {"params": flat, "weight_decay": 0.0}]
    optimisers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=learning_rate, betas=betas)]
    if turned:
        optimisers.append(
            torch.optim.Muon(
                turned, lr=muon_rate or learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
            )
        )
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(each, lambda step: _share(step, steps=steps, warmup=warmup))
        for each in optimisers
    ]
    start, mean = time.process_time(), None
    for step in range(steps):
        loss = loss_at(step)
        model.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser, schedule in zip(optimisers, schedules, strict=True):
            optimiser.step()
            schedule.step()
        if step % every == every - 1 or step == steps - 1:
            value = float(loss.detach())
            mean = value if mean is None else 0.7 * mean + 0.3 * value
            words = f"  {watch()}" if watch is not None else ""
            log(f"step {step + 1:>6} of {steps}  loss {mean:.4f}  {time.process_time() - start:.0f} CPU s{words}")


def _share(step: int, *, steps: int, warmup: int) -> float:
    """The share of the learning rate: a rise over `warmup` steps, then a cosine down to a hundredth."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
