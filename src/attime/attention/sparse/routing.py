r"""Bi-level routing attention: regions choose regions by their mean query and key; places attend inside the chosen ones.

    A = mean_r(Q) mean_s(K)^T        chosen(r) = the topk largest A[r, s]
    o_i = sum_j softmax_j(q_i k_j / sqrt(C)) v_j + LCE(V)_i        j in the regions chosen by i's region

LCE is a depthwise convolution over height and width. The choice is one for all heads and carries no gradient.

Source:  BiFormer, arXiv 2303.08810, sec. 3.2, eq. 3-8, and its public code (scale over all C channels, biases).
Names:   our `regions` are their S x S windows (n_win), here (time, height, width); `local` is their side_dwconv.
Cost:    4 C topk N / R operations per place of N in R regions; the paper balances topk and R to O(N^(4/3)) in all.
Differs: an axis that regions do not divide is cut as evenly as can be (theirs pads it with zeros that are attended to).
"""

import itertools
import math
from collections.abc import Sequence
from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from attime.attention.contract import Cost, Mixer, Traits
from attime.attention.heads import per_head
from attime.errors import AttimeError

__all__ = ["BiLevelRouting"]

Axes = tuple[int, int, int]


@final
class BiLevelRouting(Mixer):
    """Attention inside regions that are chosen by content (see the module docstring).

    `topk` regions per region; with `topk` of all regions it is full attention (plus the convolution).
    """

    traits: ClassVar[Traits] = Traits(causal=False, valid=False, grid=True)

    def __init__(self, dim: int, *, heads: int = 2, regions: Axes = (1, 7, 7), topk: int = 4, local: int = 5) -> None:
        super().__init__()
        self.dim, self.heads, self.head_dim = dim, heads, per_head(dim, heads, who="BiLevelRouting")
        if min(regions) < 1 or topk < 1 or local < 1 or local % 2 == 0:
            raise AttimeError(
                f"BiLevelRouting needs regions >= 1 on every axis, topk >= 1 and an odd local >= 1; got "
                f"regions={regions}, topk={topk}, local={local}."
            )
        self.regions, self.topk = regions, topk
        self.inputs = nn.Linear(dim, 3 * dim)
        self.local = nn.Conv2d(dim, dim, local, padding=local // 2, groups=dim)
        self.output = nn.Linear(dim, dim)

    def route(
        self, q: Float[Tensor, "batch regions places dim"], k: Float[Tensor, "batch regions places dim"], there: Tensor
    ) -> Int[Tensor, "batch regions chosen"]:
        """The regions that each region reads, best first; `there` (regions, places) is False where one is not full."""
        weight = there.to(torch.promote_types(q.dtype, torch.float32))[..., None]
        q, k = ((x.detach() * weight).sum(2) / weight.sum(1) for x in (q, k))
        return (q @ k.mT).topk(min(self.topk, there.shape[0]), dim=-1).indices

    def mix(self, x: Tensor, state: None, valid: None) -> tuple[Tensor, None]:
        rows = self.inputs(x.flatten(1, 3))
        places, there, slot = (table.to(x.device) for table in _regions(tuple(x.shape[1:4]), self.regions))
        batch, count = x.shape[0], places.shape[0]
        q, k, v = rows.index_select(1, places.flatten()).unflatten(1, places.shape).chunk(3, dim=-1)
        chosen = self.route(q, k, there)
        k, v = (self._gather(each, chosen) for each in (k, v))
        even = all(size % min(count, size) == 0 for size, count in zip(x.shape[1:4], self.regions, strict=True))
        mask = None if even else there[chosen].flatten(0, 1).flatten(1)[:, None, None]
        q = q.flatten(0, 1).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.dim**-0.5)
        out = out.transpose(1, 2).flatten(2).unflatten(0, (batch, count)).flatten(1, 2)
        values = rows[..., 2 * self.dim :].unflatten(1, x.shape[1:4])
        near = self.local(values.flatten(0, 1).movedim(-1, 1)).movedim(1, -1).unflatten(0, x.shape[:2])
        return self.output(out.index_select(1, slot).unflatten(1, x.shape[1:4]) + near), None

    def reads(self, x: Float[Tensor, "batch time height width dim"]) -> Bool[Tensor, "batch places places"]:
        """Which place attends to which, places in row-major order: for drawings and tests, quadratic."""
        places, there, slot = (table.to(x.device) for table in _regions(tuple(x.shape[1:4]), self.regions))
        rows = self.inputs(x.flatten(1, 3)).index_select(1, places.flatten()).unflatten(1, places.shape)
        q, k, _ = rows.chunk(3, dim=-1)
        chosen = F.one_hot(self.route(q, k, there), places.shape[0]).sum(2).bool()
        home = slot // places.shape[1]
        return chosen[:, home][:, :, home]

    def _gather(self, x: Tensor, chosen: Tensor) -> Tensor:
        """(batch regions places dim) to the chosen regions of each region, (batch*regions heads chosen*places head_dim)."""
        first = torch.arange(x.shape[0], device=x.device)[:, None, None] * x.shape[1]
        taken = x.flatten(0, 1).flatten(1).index_select(0, (chosen + first).flatten())
        taken = taken.view(-1, chosen.shape[2] * x.shape[2], self.heads, self.head_dim)
        return taken.transpose(1, 2)

    def reference(self, x: Tensor) -> Tensor:
        sizes = tuple(x.shape[1:4])
        counts = [min(each, size) for each, size in zip(self.regions, sizes, strict=True)]
        members: dict[tuple[int, ...], list[int]] = {}
        for number, place in enumerate(itertools.product(*map(range, sizes))):
            region = tuple(p * count // size for p, count, size in zip(place, counts, sizes, strict=True))
            members.setdefault(region, []).append(number)
        regions = list(members.values())
        q, k, v = self.inputs(x.flatten(1, 3)).chunk(3, dim=-1)
        means = [torch.stack([each[:, region].mean(1) for region in regions], dim=1) for each in (q, k)]
        order = (means[0] @ means[1].mT).argsort(dim=-1, descending=True)[:, :, : self.topk]
        out = torch.zeros_like(v)
        for row, (region, own) in itertools.product(range(len(x)), enumerate(regions)):
            keys = [place for chosen in order[row, region].tolist() for place in regions[chosen]]
            for place in own:
                for head in range(self.heads):
                    at = slice(head * self.head_dim, (head + 1) * self.head_dim)
                    weights = (k[row, keys, at] @ q[row, place, at] / math.sqrt(self.dim)).softmax(0)
                    out[row, place, at] = weights @ v[row, keys, at]
        side = self.local.weight.shape[2] // 2
        padded = F.pad(v.unflatten(1, sizes), (0, 0, side, side, side, side))
        near = torch.zeros_like(v.unflatten(1, sizes)) + self.local.get_parameter("bias")
        for i, j in itertools.product(range(2 * side + 1), repeat=2):
            near = near + self.local.weight[:, 0, i, j] * padded[:, :, i : i + sizes[1], j : j + sizes[2]]
        return self.output(out.unflatten(1, sizes) + near)

    def cost(self, length: int, dtype: torch.dtype = torch.float32, *, frame: int = 3136) -> Cost:
        """Per place of a clip of `length` frames of `frame` places (3136 is 56 x 56)."""
        places, regions = length * frame, math.prod(self.regions)
        attended = 4 * self.dim * min(self.topk, regions) * places // regions
        routed = 2 * self.dim * regions**2 // places
        near = 2 * self.dim * self.local.weight[0].numel()
        return Cost(operations=attended + routed + near, state_bytes=0, read_bytes=0)

    @classmethod
    def examples(cls) -> Sequence["BiLevelRouting"]:
        return [cls(8, regions=(1, 2, 3), topk=2, local=3), cls(12, heads=3, regions=(2, 3, 2), topk=5)]


def _regions(sizes: tuple[int, ...], regions: Axes) -> tuple[Tensor, Tensor, Tensor]:
    """Places of each region (regions, places), False where one has less than another, and where each place went."""
    places, there = torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1, dtype=torch.bool)
    for size, count in zip(sizes, regions, strict=True):
        edges = -(
            torch.arange(min(count, size) + 1) * size // -min(count, size)
        )  # ceil: place p is in p * count // size
        place = edges[:-1, None] + torch.arange(-(-size // min(count, size)))
        inside = place < edges[1:, None]
        place = place.where(inside, edges[:-1, None])
        places = (places[:, None, :, None] * size + place[None, :, None, :]).flatten(2, 3).flatten(0, 1)
        there = (there[:, None, :, None] & inside[None, :, None, :]).flatten(2, 3).flatten(0, 1)
    slot = torch.empty(math.prod(sizes), dtype=torch.int64)
    slot[places[there]] = there.flatten().nonzero().squeeze(1)
    return places, there, slot
