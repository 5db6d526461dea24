r"""An answer that does not depend on the order of its sources: segments see each other both ways and are placed by importance.

    w_ab = sum over i in a, j in b of softmax_j(q_i k_j / sqrt d) / |b|     q, k unrotated, over keys of the other segments
    for a query of segment a: a itself is last, before it the others, the more important the nearer
    for a later query i: w_ib in place of w_ab, over all segments, and all of them are placed by it

Source:  PINE, arXiv 2407.01100, sec. 3 (bidirectional attention between segments, importance, positions re-assigned); the
         public code for |b|, for what is normalised over, and for positions (segments end where the last one ends).
Names:   `segments` are (start, stop) of neighbouring pieces of the prompt, in tokens; what stands before and behind is read
         as ever. `with steer(model, AnyOrder(segments=((4, 10), (10, 19)))): model.generate(ids)`
Cost:    for each segment, and each token behind them, one turn of the segments' keys: O(n d) more per token.
Differs: positions in the prompt are those of whole tokens, one apart; rows of a batch have the same segments and no padding.
         Keys are unturned by the cosines and sines of the model itself, whatever their scaling; halves must be turned
         together, as in Llama, Qwen, Mistral, Gemma and Phi.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attime.control.call import Call
from attime.control.contract import Control, Traits
from attime.errors import AttimeError

__all__ = ["AnyOrder"]

Maps = Float[Tensor, "batch heads query key"]
Heads = Float[Tensor, "batch heads time head_dim"]
Table = tuple[Tensor, Tensor]


@final
@dataclass(frozen=True, kw_only=True)
class AnyOrder(Control):
    """Segments of a prompt in whatever order give the same answer, exactly (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(kinds=("self",), rotary=True)
    waived: ClassVar[Mapping[str, str]] = {
        "hidden_keys_stay_hidden": "a segment sees those that come after it: without that, order would count"
    }
    segments: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        stops = [start for start, _ in self.segments[:1]] + [stop for _, stop in self.segments]
        joined = all(start == before for (start, _), before in zip(self.segments, stops, strict=False))
        if not self.segments or not joined or stops[0] < 0 or any(start >= stop for start, stop in self.segments):
            raise AttimeError(
                f"AnyOrder needs segments (start, stop) that follow each other, such as ((4, 10), (10, 19)); got {self.segments}."
            )
        if self.strength not in (0, 1):
            raise AttimeError(f"AnyOrder is on or off: strength is 1 or 0; got {self.strength}.")

    def scores(self, scores: Maps, call: Call) -> Maps:
        queries, keys = scores.shape[-2:]
        first, end = self.segments[0][0], self.segments[-1][1]
        if self.strength == 0 or keys < end:
            return scores
        table, earlier = self._table(call), keys - queries
        if first < earlier < end or not call.seen[..., -1, :].all():
            raise AttimeError(
                f"AnyOrder needs all segments in one call and rows without padding; {call.site.name} reads tokens {earlier} to "
                f"{keys} and the segments are {self.segments}."
            )
        wide = torch.promote_types(call.k.dtype, torch.float32)
        keys_plain = _turn(call.k[:, :, first:end].to(wide), table, torch.arange(first, end), back=True)
        plain = _turn(call.q.to(wide), table, torch.arange(earlier, keys), back=True)
        logits = plain @ keys_plain.transpose(-1, -2) * call.scale
        made = scores.clone()
        for number, (start, stop) in enumerate(self.segments if earlier <= first else ()):
            rows, own = slice(start - earlier, stop - earlier), slice(start - first, stop - first)
            others = logits[:, :, rows].clone()
            others[..., own] = -torch.inf
            near = self._importance(others.softmax(-1).nan_to_num(0.0)).sum(2)
            near[..., number] = torch.inf
            turned = _turn(plain[:, :, rows], table, torch.arange(end - (stop - start), end))
            before = turned @ call.k[:, :, :first].to(wide).transpose(-1, -2)
            there = turned @ _turn(keys_plain, table, self._places(near)).transpose(-1, -2)
            later = torch.ones(stop - start, stop - start, dtype=torch.bool, device=there.device).triu(1)
            there[..., own].masked_fill_(later, -torch.inf)
            made[:, :, rows, :end] = torch.cat([before, there], dim=-1) * call.scale
            made[:, :, rows, end:] = -torch.inf
        for query in range(max(end - earlier, 0), queries):
            near = self._importance(logits[:, :, query, None].softmax(-1))[:, :, 0]
            turned = _turn(keys_plain, table, self._places(near))
            there = call.q[:, :, query, None].to(wide) @ turned.transpose(-1, -2)
            made[:, :, query, first:end] = there[:, :, 0] * call.scale
        return made

    def _importance(self, maps: Maps) -> Float[Tensor, "batch heads query segments"]:
        """Mean attention to the keys of each segment."""
        sizes = [stop - start for start, stop in self.segments]
        return torch.stack([part.mean(-1) for part in maps.split(sizes, dim=-1)], dim=-1)

    def _places(self, near: Float[Tensor, "batch heads segments"]) -> Int[Tensor, "batch heads region"]:
        """New positions of the segments' keys: the greatest is last, the next before it, and so on."""
        sizes = torch.tensor([stop - start for start, stop in self.segments], device=near.device)
        order = near.argsort(dim=-1, descending=True, stable=True)
        length = sizes[order]
        stops = self.segments[-1][1] - (length.cumsum(-1) - length).gather(-1, order.argsort(dim=-1))
        return torch.cat(
            [
                stops[..., each : each + 1] - size + torch.arange(size, device=near.device)
                for each, size in enumerate(sizes.tolist())
            ],
            dim=-1,
        )

    def _table(self, call: Call) -> Table:
        """Cosines and sines of all positions so far (time dim); those of earlier calls are in the notes."""
        assert call.rotary is not None
        new, keys = (call.rotary[0][0], call.rotary[1][0]), call.k.shape[2]
        known: Table | None = call.notes.get("table")
        if len(new[0]) < keys and known is not None and len(known[0]) == keys:
            return known
        if len(new[0]) < keys:
            if known is None or len(known[0]) + len(new[0]) != keys:
                raise AttimeError(
                    f"AnyOrder must be there when the prompt is read: {call.site.name} has {keys} keys, and it knows of "
                    f"{0 if known is None else len(known[0])}."
                )
            new = (torch.cat([known[0], new[0]]), torch.cat([known[1], new[1]]))
        call.notes["table"] = new
        return new

    @classmethod
    def examples(cls) -> Sequence["AnyOrder"]:
        return [cls(segments=((2, 6), (6, 9), (9, 15))), cls(segments=((0, 5), (5, 10)), steps=range(1))]


def _turn(x: Heads, table: Table, place: Tensor, *, back: bool = False) -> Heads:
    """Queries or keys turned to positions (time) or (batch heads time), or back from them."""
    cos, sin = (each[place.to(each.device)].to(x.dtype) for each in table)
    dim = cos.shape[-1]
    if back:
        size = cos.square() + sin.square()
        cos, sin = cos / size, -sin / size
    one, rest = x[..., :dim], x[..., dim:]
    half = torch.cat([-one[..., dim // 2 :], one[..., : dim // 2]], dim=-1)
    return torch.cat([one * cos + half * sin, rest.expand(*one.shape[:-1], -1)], dim=-1)
