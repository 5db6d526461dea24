r"""An encoder over series instead of over time: every series is one token, and attention mixes series.

    x' = (x - mean) / std of the window        token_n = W x'_n        forecast_n = mean_n + std_n * (P encoder(token)_n)

Source:  iTransformer, arXiv 2310.06625, sec. 3.1 and its public settings.
Names:   a series is their variate; `feedforward` their d_ff.
Differs: `calendar` series, which the caller makes, join as tokens without forecasts, as in the public code.
"""

from collections.abc import Sequence
from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from attime.attention.contract import Mixer
from attime.attention.softmax import Bidirectional
from attime.attention.state import State
from attime.errors import AttimeError
from attime.models.contract import Model, Traits

__all__ = ["InvertedModel"]


class _Layer(nn.Module):
    """norm(x + mixer(x)), then norm(x + feedforward(x)): the order of the original Transformer."""

    def __init__(self, mixer: Mixer, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.mixer, self.dropout = mixer, nn.Dropout(dropout)
        self.widen, self.narrow = nn.Linear(mixer.dim, feedforward), nn.Linear(feedforward, mixer.dim)
        self.after_mixer, self.after = nn.LayerNorm(mixer.dim), nn.LayerNorm(mixer.dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.after_mixer(x + self.dropout(self.mixer(x)[0]))
        return self.after(x + self.dropout(self.narrow(self.dropout(F.gelu(self.widen(x))))))


@final
class InvertedModel(Model):
    """Forecasts every series from one window of `lookback` steps (see the module docstring). Not causal: no stream."""

    traits: ClassVar[Traits] = Traits(causal=False)

    def __init__(
        self,
        *,
        lookback: int,
        horizon: int,
        dim: int = 256,
        heads: int = 8,
        layers: int = 2,
        feedforward: int = 256,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.lookback, self.horizon = lookback, horizon
        self.embedding, self.dropout = nn.Linear(lookback, dim), nn.Dropout(dropout)
        mixers = [Bidirectional(dim, heads=heads, rope=False) for _ in range(layers)]
        self.layers = nn.Sequential(*[_Layer(mixer, feedforward, dropout) for mixer in mixers])
        self.after = nn.LayerNorm(dim)
        self.forecast = nn.Linear(dim, horizon)

    def forward(
        self,
        inputs: Float[Tensor, "batch time channels"],
        state: State | None = None,
        *,
        valid: Bool[Tensor, "batch time"] | None = None,
        calendar: Float[Tensor, "batch time covariates"] | None = None,
    ) -> tuple[Float[Tensor, "batch time channels width"], None]:
        """Every place gets the same: the forecast after the last one."""
        if state is not None or valid is not None or inputs.shape[1] != self.lookback:
            raise AttimeError(
                f"InvertedModel reads whole windows of lookback={self.lookback} steps, without state or padding; "
                f"got {inputs.shape[1]} steps."
            )
        mean = inputs.mean(dim=1, keepdim=True)
        std = (inputs.var(dim=1, correction=0, keepdim=True) + 1e-5).sqrt()
        series = (inputs - mean) / std
        if calendar is not None:
            series = torch.cat([series, calendar.to(series.dtype)], dim=2)
        tokens = self.after(self.layers(self.dropout(self.embedding(series.mT))))[:, : inputs.shape[2]]
        hidden = torch.cat([tokens, mean.mT, std.mT], dim=-1)
        return hidden[:, None].expand(-1, inputs.shape[1], -1, -1), None

    def head(self, hidden: Float[Tensor, "places channels width"]) -> Float[Tensor, "places horizon channels"]:
        tokens, mean, std = hidden[..., :-2], hidden[..., -2:-1], hidden[..., -1:]
        return (mean + std * self.forecast(tokens)).mT

    @classmethod
    def examples(cls) -> Sequence["InvertedModel"]:
        return [cls(lookback=17, horizon=4, dim=8, heads=2, layers=1, feedforward=8, dropout=0.0)]
