r"""Heads whose output depends most on the picture speak louder for the rest of the answer.

    d_i = || o_i(text, picture) - o_i(text) ||_2     at the last token of the prompt
    d_i <- 0  where d_i > mean + deviation and || o_i(text, picture) || < || o_i(text) ||
    o_i <- a o_i  for the half of the layer's heads with the greatest d_i

Source:  VHR, arXiv 2412.13949, sec. 3.1 (vision-aware head divergence), sec. 4 (reinforcement, a = 2, half of the heads,
         chosen layer after layer at the first step).
Names:   our `strength` is a - 1; `without` are the outputs o(text).
         `with steer(model, VisualHeads(), where="language 1 18-31"): model.generate(**inputs)`
Cost:    one row of attention at each prompt; a product in decoding. `without` costs a run over the text alone.
Differs: left to itself it takes o(text) from the same call, with the pictures' keys hidden; words have then seen the picture in
         earlier layers. The paper runs the text alone: `with watch(model, where="language", keep="outputs") as seen:
         model(**text)` and `without=text_only(seen)`, of heads that are not reinforced. The rule for heads that are silenced
         by the picture is worded in the paper without numbers; ours is above.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from attime.control.call import Call
from attime.control.contract import Control, Traits
from attime.errors import AttimeError

__all__ = ["VisualHeads", "text_only"]

Heads = Float[Tensor, "batch heads time head_dim"]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class VisualHeads(Control):
    """Reinforces the heads of each layer that the picture moves most (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(kinds=("self",), visual=True)
    share: float = 0.5
    without: Float[Tensor, "batch layers heads head_dim"] | None = None
    """Outputs at the last token when the text is read without the picture, by number of layer."""

    def __post_init__(self) -> None:
        if self.strength < -1 or not 0 < self.share <= 1:
            raise AttimeError(
                f"VisualHeads needs strength of -1 or more and a share above 0, up to 1; got strength={self.strength}, "
                f"share={self.share}."
            )

    def outputs(self, out: Heads, call: Call) -> Heads:
        if self.strength == 0:
            return out
        gain = call.notes.get(call.site.name)
        if out.shape[2] > 1 or gain is None or len(gain) != len(out):
            gain = call.notes[call.site.name] = 1 + self.strength * self._chosen(out, call).to(out.dtype)
        return out * gain[..., None, None]

    def _chosen(self, out: Heads, call: Call) -> Tensor:
        """(batch heads): the most visual heads."""
        seeing, blind = out[:, :, -1], self._blind(out, call)
        moved = (seeing - blind).norm(dim=-1)
        odd = moved > moved.mean(1, keepdim=True) + moved.std(1, correction=0, keepdim=True)
        moved = moved.masked_fill(odd & (seeing.norm(dim=-1) < blind.norm(dim=-1)), 0.0)
        count = max(1, round(self.share * moved.shape[1]))
        chosen = torch.zeros_like(moved, dtype=torch.bool).scatter(1, moved.topk(count, dim=1).indices, True)
        return chosen & (moved > 0)

    def _blind(self, out: Heads, call: Call) -> Float[Tensor, "batch heads head_dim"]:
        """What the last token would get without the picture."""
        if self.without is not None:
            batch, layers, *sizes = self.without.shape
            if batch not in (1, len(out)) or layers <= call.site.layer or sizes != [out.shape[1], out.shape[3]]:
                raise AttimeError(
                    f"VisualHeads needs outputs without the picture of {len(out)} rows (batch layers heads head_dim), and of "
                    f"layer {call.site.layer} with {out.shape[1]} heads of {out.shape[3]}; got {tuple(self.without.shape)}."
                )
            return self.without[:, call.site.layer].to(out)
        assert call.visual is not None
        hidden = call.visual[:, None] | ~call.seen[..., -1, :]
        wide = torch.promote_types(call.q.dtype, torch.float32)
        scores = (call.q[:, :, -1:].to(wide) @ call.k.to(wide).transpose(-1, -2))[:, :, 0] * call.scale
        if call.added is not None:
            scores = scores + call.added[..., -1, :]
        maps = scores.masked_fill(hidden, -torch.inf).softmax(-1).nan_to_num(0.0)
        return (maps[:, :, None] @ call.v.to(wide))[:, :, 0].to(out.dtype)

    @classmethod
    def examples(cls) -> Sequence["VisualHeads"]:
        generator = torch.Generator().manual_seed(0)
        without = torch.randn(2, 3, 2, 8, generator=generator, dtype=torch.float64)
        return [cls(), cls(strength=0.5, share=1.0, without=without)]


def text_only(seen: Iterable[Any]) -> Float[Tensor, "batch layers heads head_dim"]:
    """Outputs of one run at its last token, layer by layer, from what `watch(..., keep="outputs")` has seen."""
    last = {record.site.layer: record.value[:, :, -1] for record in seen}
    if sorted(last) != list(range(len(last))) or not last:
        raise AttimeError(
            f"text_only needs a run watched at every layer of the language model; got layers {sorted(last)}."
        )
    return torch.stack([last[number] for number in sorted(last)], dim=1)
