"""More frames than a model was trained on, where it has one learnt or computed position per frame: the positions are spread evenly."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Stretched"]


class Stretched:
    """A model of Latte's class, called for any number of frames: a longer clip lies on the same stretch of time, closer together.

    Between two positions it takes what lies between their embeddings; at the trained length it calls the model as it is.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __call__(self, *, hidden_states: Tensor, **rest: Any) -> Any:
        own: Any = self.model.temp_pos_embed
        if hidden_states.shape[2] == own.shape[1]:
            return self.model(hidden_states=hidden_states, **rest)
        rows = own.transpose(1, 2).float()
        spread = F.interpolate(rows, size=hidden_states.shape[2], mode="linear", align_corners=True)
        self.model.temp_pos_embed = spread.transpose(1, 2).to(own)
        try:
            return self.model(hidden_states=hidden_states, **rest)
        finally:
            self.model.temp_pos_embed = own
