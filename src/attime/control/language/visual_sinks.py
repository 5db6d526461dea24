r"""Attention that heads which look at the picture waste on sinks goes to the rest of the picture.

    phi_j = max over d in D of | x_jd / sqrt(mean x_j^2) |        sink: phi_j > t     (x: what the layer was given)
    a row of a head counts if  sum_visual A >= m  and  sum_visual sinks A <= r sum_visual A
    there  A_ij <- p A_ij  for all sinks,  A_ik <- A_ik (1 + (1 - p) sum_sinks A / sum_V A)  for k in V: visual, no sinks

Source:  VAR, arXiv 2503.03321, sec. 3 (massive dimensions, phi), sec. 5 (image-centric heads, redistribution).
Names:   our `strength` is 1 - p, `dims` is D, `threshold` is t, `visual_least` is m, `sinks_most` is r.
         `with steer(model, VisualSinks(dims=(1415, 2533)), where="language 2-30"): model.generate(**inputs)`
Cost:    a map of T^2 at the sites where it acts.
Differs: D is a property of the language model: (1415, 2533) for Llama-2-7B; lens.massive_dims finds it in others. The paper
         leaves out layers 0, 1 and the last one: the last by `where=`, which also says where a model begins to have sinks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attime.control.call import Call
from attime.control.contract import Control, Traits
from attime.errors import AttimeError
from attime.site import Where, layer

__all__ = ["VisualSinks"]

Maps = Float[Tensor, "batch heads query key"]


@final
@dataclass(frozen=True, kw_only=True)
class VisualSinks(Control):
    """Takes attention from sinks and gives it to visual tokens that are none (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(kinds=("self",), visual=True, stream=True)
    where: ClassVar[Where | None] = ~layer(0, 1)
    strength: float = 0.4
    dims: tuple[int, ...]
    threshold: float = 20.0
    visual_least: float = 0.2
    sinks_most: float = 0.5

    def __post_init__(self) -> None:
        shares = (self.strength, self.visual_least, self.sinks_most)
        if not all(0 <= each <= 1 for each in shares) or not self.dims or self.threshold < 0:
            raise AttimeError(
                f"VisualSinks needs dims, strength, visual_least and sinks_most from 0 to 1, and threshold >= 0; got "
                f"dims={self.dims}, {shares}, threshold={self.threshold}."
            )

    def maps(self, maps: Maps, call: Call) -> Maps:
        if self.strength == 0:
            return maps
        assert call.visual is not None
        sinks, visual = self._sinks(call)[:, None, None], call.visual[:, None, None]
        looked, rest = ((maps * which).sum(-1, keepdim=True) for which in (visual, visual & ~sinks))
        words = ~call.visual[:, -maps.shape[2] :][:, None, :, None]
        centred = words & (looked >= self.visual_least) & (looked - rest <= self.sinks_most * looked)
        centred = centred & (rest > 0) & (visual & sinks).any(-1, keepdim=True)
        taken = (maps * sinks).sum(-1, keepdim=True)
        gain = 1 + self.strength * taken / rest.clamp(min=torch.finfo(maps.dtype).tiny)
        moved = torch.where(sinks, (1 - self.strength) * maps, torch.where(visual, maps * gain, maps))
        return torch.where(centred, moved, maps)

    def _sinks(self, call: Call) -> Bool[Tensor, "batch key"]:
        """Which keys are sinks at this layer; those of tokens that came before are in the notes."""
        assert call.stream is not None
        stream = call.stream.to(torch.promote_types(call.stream.dtype, torch.float32))
        if max(self.dims) >= stream.shape[-1]:
            raise AttimeError(
                f"VisualSinks was given dims={self.dims}; {call.site.name} has {stream.shape[-1]} dimensions: find those of "
                f"this model with attime.lens.massive_dims."
            )
        normal = stream * stream.square().mean(-1, keepdim=True).add(1e-6).rsqrt()
        sinks = normal[..., list(self.dims)].abs().amax(-1) > self.threshold
        earlier, known = call.k.shape[2] - sinks.shape[1], call.notes.get(call.site.name)
        if known is None or known.shape != (len(sinks), earlier):
            known = sinks.new_zeros(len(sinks), earlier)
        call.notes[call.site.name] = torch.cat([known, sinks], dim=1)
        return call.notes[call.site.name]

    @classmethod
    def examples(cls) -> Sequence["VisualSinks"]:
        return [
            cls(dims=(1, 5), threshold=1.5),
            cls(strength=1.0, dims=(0,), threshold=1.0, visual_least=0.0, sinks_most=0.9),
        ]
