"""What a model costs on a stream: milliseconds of one step, and bytes of state, after a short and a long past."""

import time
from collections.abc import Mapping
from statistics import median

import torch
from torch import Tensor

from attime.models.contract import Model
from attime.models.series import SeriesModel
from attime.models.stack import Block
from attime.tasks.contract import Tokens, Values

__all__ = ["state_bytes", "step_ms"]

SHORT, LONG, FAR = 1024, 16384, 65536


def state_bytes(model: Model, space: Tokens | Values) -> dict[int, int]:
    """Bytes of state of one stream after 1k and 64k tokens: counted from the mixers' costs, which laws check."""
    _, state = model(_inputs(space, 1))
    assert state is not None
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    rows = model.channels if isinstance(model, SeriesModel) else 1
    fixed = state.nbytes - rows * sum(block.mixer.cost(1).state_bytes for block in blocks)
    return {past: fixed + rows * sum(block.mixer.cost(past).state_bytes for block in blocks) for past in (SHORT, FAR)}


@torch.inference_mode()
def step_ms(model: Model, space: Tokens | Values, *, limit_s: float = 20.0) -> Mapping[int, float]:
    """Median milliseconds of CPU time of one step of the whole model after a short and a long past.

    The long past is 16k tokens, or as many as the model reads within `limit_s` of CPU time.
    """
    model.eval()
    found: dict[int, float] = {}
    start, state, past = time.process_time(), None, 0
    while past < LONG and (past < SHORT or time.process_time() - start < limit_s):
        _, state = model(_inputs(space, SHORT), state)
        past += SHORT
        if past == SHORT:
            found[past] = _step(model, space, state)
    if past > SHORT:
        found[past] = _step(model, space, state)
    return found


def _step(model: Model, space: Tokens | Values, state: object) -> float:
    one, times = _inputs(space, 1), []
    for _ in range(21):
        start = time.process_time_ns()
        hidden, state = model(one, state)  # type: ignore[arg-type]
        model.head(hidden[:, -1])
        times.append(time.process_time_ns() - start)
    return median(times[3:]) / 1e6


def _inputs(space: Tokens | Values, length: int) -> Tensor:
    if isinstance(space, Tokens):
        return torch.randint(0, space.vocabulary, (1, length), generator=torch.Generator().manual_seed(length))
    return torch.randn(1, length, space.channels, generator=torch.Generator().manual_seed(length))
