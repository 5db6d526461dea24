r"""Keys and values in 2, 4 or 8 bits: keys by channel in groups of tokens, values by token; nothing is quantised twice.

    code = floor(2^bits (x - low) / width),   x ~ mid + step code,   step = width / 2^bits,   mid = low + step / 2
    q . k_i = sum_c (q_c step_gc) code_ic + q . mid_g        sum_i w_i v_i = sum_i (w_i step_i) code_i + sum_i w_i mid_i

Source:  KIVI, arXiv 2402.02750, sec. 3 (axes of keys and values); ZipCache, arXiv 2405.14256, sec. 4.1 (`scale`: values are
         divided by a factor of their channel first, the square root of its greatest magnitude).
Cost:    dim bits / 8 bytes for a key or a value, 4 dim for a group of keys, 4 for a value, 2 dim for a group's `scale`.
         Codes are unpacked piece by piece, so that what is unpacked stays in the processor's cache.
Differs: cells of equal width between the extremes, read as their middles, where the sources round to levels that include
         both extremes: so fewer bits are the leading bits of more, and `narrow` is exactly what quantising the numbers
         themselves would have given. low and width are in float16, of each head alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import final

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from attime.errors import AttimeError
from attime.memory.packed import joined, pack, split, unpack
from attime.memory.store import Entries, Queries, Store, Weights

__all__ = ["Quantized", "check_widths"]

PIECE = 2**20  # numbers that are unpacked at a time: four megabytes
LEAST = 2.0**-24  # the smallest width that float16 knows
GROUPED = ("key_low", "key_width", "scale")


def check_widths(keys: Entries, values: Entries, bits: int) -> None:
    """AttimeError where codes of so many bits do not fill whole bytes."""
    parts = 8 // bits
    if keys.shape[2] % parts or values.shape[2] % parts:
        raise AttimeError(
            f"{bits} bits need head dimensions that are multiples of {parts}; got {keys.shape[2]} for keys and "
            f"{values.shape[2]} for values: take 8 bits."
        )


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Quantized(Store):
    """Codes with their lows and widths (see the module docstring)."""

    key_codes: UInt8[Tensor, "lanes entries packed_keys"]
    value_codes: UInt8[Tensor, "lanes entries packed_values"]
    key_low: Float[Tensor, "lanes groups head_dim"]
    key_width: Float[Tensor, "lanes groups head_dim"]
    value_low: Float[Tensor, "lanes entries"]
    value_width: Float[Tensor, "lanes entries"]
    scale: Float[Tensor, "lanes groups value_dim"] | None = None
    group: Int[Tensor, "lanes entries"] | None = None
    """Each entry's group; None where groups have equally many entries, one after the other."""
    like: Float[Tensor, " nothing"]
    """Nothing, in the model's dtype."""

    @classmethod
    def of(cls, keys: Entries, values: Entries, *, bits: int, group: int, separable: bool = False) -> "Quantized":
        """Keys and values, in groups of so many; `separable` divides values by a factor of their channel."""
        check_widths(keys, values, bits)
        work = torch.promote_types(keys.dtype, torch.float32)
        key, value, scale = keys.to(work).unflatten(1, (-1, group)), values.to(work), None
        if separable:
            value = value.unflatten(1, (-1, group))
            scale = value.abs().amax(2).sqrt().to(torch.float16).clamp(min=LEAST)
            value = (value / scale.to(work)[:, :, None]).flatten(1, 2)
        key_codes, key_low, key_width = _coded(key, bits, axis=2)
        value_codes, value_low, value_width = _coded(value, bits, axis=2)
        return cls(
            key_codes=pack(key_codes.flatten(1, 2), bits),
            value_codes=pack(value_codes, bits),
            key_low=key_low,
            key_width=key_width,
            value_low=value_low,
            value_width=value_width,
            scale=scale,
            like=keys.new_empty(0),
        )

    @property
    def bits(self) -> int:
        """Of a code."""
        return 8 * self.key_codes.shape[2] // self.key_low.shape[2]

    @property
    def length(self) -> int:
        return self.key_codes.shape[1]

    @property
    def nbytes(self) -> int:
        return sum(each.nbytes for each in self.tensors().values())

    def keys(self) -> Entries:
        step, mid = _read(self.key_low, self.key_width, self.bits, self.like.dtype)
        codes, owner = joined(unpack(self.key_codes, self.bits, step.dtype)), self._owner()
        return codes.mul_(_chosen(step, owner)).add_(_chosen(mid, owner)).to(self.like.dtype)

    def values(self) -> Entries:
        step, mid = _read(self.value_low, self.value_width, self.bits, self.like.dtype)
        made = joined(unpack(self.value_codes, self.bits, step.dtype)).mul_(step[..., None]).add_(mid[..., None])
        if self.scale is not None:
            made.mul_(_chosen(self.scale, self._owner()))
        return made.to(self.like.dtype)

    def logits(self, q: Queries) -> Weights:
        step, mid = _read(self.key_low, self.key_width, self.bits, q.dtype)
        asked, parts = q.to(step.dtype), 8 // self.bits
        pieces, size, made = split(asked, parts).flatten(0, 1), self._size, list[Tensor]()
        for start, stop in self._pieces():
            cells = unpack(self.key_codes[:, start:stop], self.bits, step.dtype)
            if self.group is None and asked.shape[1] < size:  # steps on the side of the queries, which are fewer
                stepped = asked[:, None] * step[:, start // size : stop // size, None]
                each = torch.bmm(split(stepped, parts).flatten(0, 2), cells.view(-1, size, cells.shape[3]).mT)
                each = each.unflatten(0, (parts, len(q), -1)).sum(0).transpose(1, 2).flatten(2)
            else:
                cells = self._times(cells, step, start, stop)
                each = torch.bmm(pieces, cells.flatten(0, 1).mT).unflatten(0, (parts, -1)).sum(0)
            made.append(each)
        base = asked @ mid.mT
        return torch.cat(made, dim=2).add_(self._spread(base))

    def mixed(self, weights: Weights) -> Queries:
        step, mid = _read(self.value_low, self.value_width, self.bits, weights.dtype)
        given, parts = weights.to(step.dtype), 8 // self.bits
        stepped, base = given * step[:, None], given * mid[:, None]
        scale = None if self.scale is None else self.scale.to(step.dtype)
        out = []
        for start, stop in self._pieces():
            cells = unpack(self.value_codes[:, start:stop], self.bits, step.dtype)
            cells = cells if scale is None else self._times(cells, scale, start, stop)
            out.append(torch.bmm(stepped[:, :, start:stop].repeat(parts, 1, 1), cells.flatten(0, 1)))
        whole = joined(torch.stack(out).sum(0).unflatten(0, (parts, -1)))
        if scale is None:
            return (whole + base.sum(2, keepdim=True)).to(weights.dtype)
        summed = base.new_zeros(*base.shape[:2], scale.shape[1])
        summed.scatter_add_(2, self._owner()[:, None].expand_as(base), base)
        return (whole + summed @ scale).to(weights.dtype)

    def narrow(self, bits: int) -> "Quantized":
        """The same entries in fewer bits: the leading bits of their codes."""
        both = (self.key_codes, self.value_codes)
        key, value = (pack(joined(unpack(each, self.bits)) >> (self.bits - bits), bits) for each in both)
        return replace(self, key_codes=key, value_codes=value)

    def part(self, start: int, stop: int) -> "Quantized":
        """The entries from start to stop."""
        if (start, stop) == (0, self.length):
            return self
        slot = torch.arange(start, stop, device=self.key_low.device)
        return self.select(slot.expand(len(self.key_low), -1))

    def alike(self, later: Store) -> bool:
        """The other one is in the same format."""
        return isinstance(later, Quantized) and (self.bits, self.scale is None) == (later.bits, later.scale is None)

    def join(self, later: "Quantized") -> "Quantized":
        """These entries, and behind them those of a store of as many bits."""
        first, second = self.tensors(), later.tensors()
        if not (self.group is None and later.group is None and self._size == later._size):
            first["group"] = self._owner().int()
            second["group"] = (later._owner() + self.key_low.shape[1]).int()
        both = {name: torch.cat([each, second[name]], dim=1) for name, each in first.items() if name != "like"}
        return Quantized(**both, like=self.like)

    def select(self, kept: Int[Tensor, "lanes kept"], *, room: int = 0) -> "Quantized":
        owner, count = self._owner().gather(1, kept), kept.shape[1]
        fresh = F.pad(owner.diff(dim=1) != 0, (1, 0)).long().cumsum(1)
        used = torch.zeros(len(kept), int(fresh.max()) + 1, dtype=torch.long, device=kept.device)
        used.scatter_(1, fresh, owner)
        even = torch.arange(count, device=kept.device) // (count // used.shape[1])
        here = {name: each for name, each in self.tensors().items() if name not in ("like", "group")}
        made = {name: _chosen(each, used if name in GROUPED else kept) for name, each in here.items()}
        return Quantized(**made, group=None if bool((fresh == even).all()) else fresh.int(), like=self.like)

    def take(self, chosen: Int[Tensor, " chosen"]) -> "Quantized":
        return Quantized(**{name: each if name == "like" else each[chosen] for name, each in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        return {each.name: held for each in fields(self) if (held := getattr(self, each.name)) is not None}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor]) -> "Quantized":
        return cls(**tensors)

    @property
    def _size(self) -> int:
        """Entries that lie together and have one group."""
        return self.length // self.key_low.shape[1] if self.group is None else 1

    def _owner(self) -> Int[Tensor, "lanes entries"]:
        """Each entry's group."""
        if self.group is not None:
            return self.group.long()
        whole = torch.arange(self.length, device=self.key_low.device) // self._size
        return whole.expand(len(self.key_low), -1)

    def _pieces(self) -> Iterator[tuple[int, int]]:
        """From where to where it is unpacked at a time: whole groups."""
        lanes, _, dim = self.key_low.shape
        groups = max(1, PIECE // (lanes * dim * self._size))
        for start in range(0, self.length, groups * self._size):
            yield start, min(self.length, start + groups * self._size)

    def _times(
        self,
        cells: Float[Tensor, "parts lanes piece part"],
        each: Float[Tensor, "lanes groups dim"],
        start: int,
        stop: int,
    ) -> Float[Tensor, "parts lanes piece part"]:
        """The cells from start to stop times their groups' factors, in place."""
        if self.group is None:
            rows = each[:, start // self._size : stop // self._size]
        else:
            rows = _chosen(each, self.group[:, start:stop].long())
        cells.unflatten(2, (-1, self._size)).mul_(split(rows, len(cells))[:, :, :, None])
        return cells

    def _spread(self, base: Float[Tensor, "lanes queries groups"]) -> Weights:
        """What groups have, at each of their entries."""
        if self.group is None:
            return base.repeat_interleave(self._size, dim=2)
        return base.gather(2, self._owner()[:, None].expand(-1, base.shape[1], -1))


def _coded(x: Tensor, bits: int, *, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """Codes of numbers (float32 or more), and low and width along an axis, which they lose; both are widened by rounding."""
    rounding = 2.0**-11
    least, most = torch.aminmax(x, dim=axis, keepdim=True)
    low = (least - least.abs() * rounding).clamp(min=-65504, max=65504).to(torch.float16)
    width = ((most - low) * (1 + rounding)).clamp(min=LEAST, max=65504).to(torch.float16)
    codes = ((x - low) * (2**bits / width.to(x.dtype))).clamp_(0, 2**bits - 1).to(torch.uint8)
    return codes, low.squeeze(axis), width.squeeze(axis)


def _read(low: Tensor, width: Tensor, bits: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Steps and mids, in float32 at least."""
    step = width.to(torch.promote_types(dtype, torch.float32)) / 2**bits
    return step, low + step / 2


def _chosen(each: Tensor, index: Int[Tensor, "lanes chosen"]) -> Tensor:
    """Rows (lanes, chosen, ...) of (lanes, rows, ...)."""
    rows = index + each.shape[1] * torch.arange(len(index), device=index.device)[:, None]
    return each.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, index.shape)
