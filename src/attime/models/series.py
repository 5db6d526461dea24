r"""A model of many series: each channel is read by the same stack, relative to its own recent level.

    level_t = sum_i g^(t-i) x_i / sum_i g^(t-i)        input_t = x_t - level_t        forecast = level_t + head(...)

The level is the causal twin of per-window normalisation (RevIN), so that a forecast on a live stream is the forecast
on a window. Source: channel independence, PatchTST, arXiv 2211.14730; window normalisation, RevIN (ICLR 2022).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attime.attention.state import State
from attime.errors import AttimeError
from attime.models.contract import Model
from attime.models.stack import Block, Stack

__all__ = ["SeriesModel"]


@dataclass(frozen=True)
class SeriesState(State):
    """Decayed sum and count of the past values of each channel, and the stack's state (rows: batch x channels)."""

    total: Float[Tensor, " rows"]
    count: Float[Tensor, " rows"]
    stack: State


@final
class SeriesModel(Model):
    """Forecasts the next `horizon` values of every channel. `memory` is how many steps the level looks back."""

    def __init__(self, stack: Stack, *, channels: int, horizon: int, memory: float = 96.0) -> None:
        super().__init__()
        if channels < 1 or horizon < 1 or memory <= 0:
            raise AttimeError(
                f"SeriesModel needs channels >= 1, horizon >= 1, memory > 0; "
                f"got channels={channels}, horizon={horizon}, memory={memory}."
            )
        self.stack, self.channels, self.horizon, self.memory = stack, channels, horizon, memory
        self.embedding = nn.Linear(1, stack.dim)
        self.forecast = nn.Linear(stack.dim, horizon)
        nn.init.zeros_(self.forecast.weight)
        nn.init.zeros_(self.forecast.bias)

    def forward(
        self,
        inputs: Float[Tensor, "batch time channels"],
        state: State | None = None,
        *,
        valid: Bool[Tensor, "batch time"] | None = None,
    ) -> tuple[Float[Tensor, "batch time channels width"], State]:
        batch, time, channels = inputs.shape
        if channels != self.channels:
            raise AttimeError(
                f"SeriesModel was built with channels={self.channels}; got {channels} (batch time channels)."
            )
        x = inputs.transpose(1, 2).reshape(batch * channels, time)
        seen = torch.ones_like(x) if valid is None else valid.repeat_interleave(channels, dim=0).to(x.dtype)
        x = x * seen
        total, count = (state.total, state.count) if isinstance(state, SeriesState) else (x.new_zeros(len(x)),) * 2
        totals, counts = _decayed(x, total, seen, self.memory), _decayed(seen, count, seen, self.memory)
        level = totals / counts.clamp_min(1e-6)
        inner = state.stack if isinstance(state, SeriesState) else None
        mask = None if valid is None else valid.repeat_interleave(channels, dim=0)
        hidden, inner = self.stack(self.embedding((x - level)[..., None]), inner, valid=mask)
        hidden = torch.cat([hidden, level[..., None]], dim=-1).unflatten(0, (batch, channels)).transpose(1, 2)
        return hidden, SeriesState(totals[:, -1], counts[:, -1], inner)

    def head(self, hidden: Float[Tensor, "places channels width"]) -> Float[Tensor, "places horizon channels"]:
        return (self.forecast(hidden[..., :-1]) + hidden[..., -1:]).transpose(1, 2)

    @classmethod
    def examples(cls) -> Sequence["SeriesModel"]:
        from attime.attention.linear import Decay

        return [cls(Stack([Block(Decay(8), hidden=12)]), channels=3, horizon=4, memory=6.0)]


def _decayed(x: Tensor, start: Tensor, seen: Tensor, memory: float) -> Tensor:
    """s_t = g^seen_t s_{t-1} + x_t along the last axis: a level does not fade over padding."""
    out = []
    for value, here in zip(x.unbind(1), seen.unbind(1), strict=True):
        start = start * torch.exp(-here / memory) + value
        out.append(start)
    return torch.stack(out, dim=1)
