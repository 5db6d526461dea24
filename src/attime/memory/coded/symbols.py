r"""Codes to bits and back, exactly: a range coder with a table of frequencies for every channel of every head.

    bits = - sum log2 p_{head, channel}(code),    p from the counts of the codes themselves, rounded to 8 bits and sent along

Source:  CacheGen, arXiv 2310.07240, sec. 5.1.3 (a distribution per layer and channel, arithmetic coding).
Cost:    one call of the coder per channel and chunk; tables are sent once for all chunks.
Differs: anchors have 255 codes and few samples, so each channel's are coded by a rounded normal distribution (two numbers)
         and not by a table. The range coder is the one of the package constriction.
"""

import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from attime.errors import MissingExtra

__all__ = ["Tables", "packed", "read_codes", "unpacked", "write_codes"]

Array = NDArray[Any]
EDGE = 127


@final
@dataclass(frozen=True)
class Tables:
    """What coder and decoder both know of the codes: frequencies of differences, mean and deviation of anchors."""

    counts: NDArray[np.uint8]
    """(heads, dim, bins - 1), the commonest 255; 0 for what does not occur."""
    normal: NDArray[np.float16]
    """(heads, dim, 2)."""

    @classmethod
    def of(cls, anchors: Tensor, others: Tensor, heads: Int[Tensor, " lanes"], bins: int) -> "Tables":
        """Of the codes (lanes, entries, dim); lanes of one head share their tables."""
        counts, normal = [], []
        for head in heads.unique():
            own, first = others[heads == head].flatten(0, 1).long(), anchors[heads == head].flatten(0, 1).double()
            kinds = torch.arange(own.shape[1]) * (bins - 1)
            found = torch.bincount((own + bins // 2 - 1 + kinds).flatten(), minlength=own.shape[1] * (bins - 1))
            found = found.view(own.shape[1], bins - 1).double()
            shares = (255 * found / found.amax(1, keepdim=True).clamp(min=1)).ceil()
            counts.append(shares.to(torch.uint8).numpy())
            deviation = first.std(0, correction=0) if len(first) else torch.ones(own.shape[1])
            mean = first.mean(0) if len(first) else torch.zeros(own.shape[1])
            normal.append(torch.stack([mean, deviation.clamp(min=0.3)], dim=-1).half().numpy())
        return cls(np.stack(counts), np.stack(normal))

    @cached_property
    def models(self) -> list[list[tuple[Any, Any]]]:
        """The models of anchors and of differences, for every head and channel."""
        model = _constriction().stream.model
        counts = np.where(self.counts.any(-1, keepdims=True), self.counts, 1).astype(np.float64)
        shares, normal = counts / counts.sum(-1, keepdims=True), self.normal.astype(np.float64)
        return [
            [
                (model.QuantizedGaussian(-EDGE, EDGE, mean, deviation), model.Categorical(known, perfect=False))
                for (mean, deviation), known in zip(*head, strict=True)
            ]
            for head in zip(normal, shares, strict=True)
        ]


def write_codes(anchors: Tensor, others: Tensor, heads: Int[Tensor, " lanes"], tables: Tables) -> NDArray[np.uint32]:
    """The bit stream of codes (lanes, entries, dim)."""
    encoder = _constriction().stream.queue.RangeEncoder()
    edge = tables.counts.shape[2] // 2
    for place, head in enumerate(heads.unique()):
        fine, coarse = (each[heads == head].permute(2, 0, 1).flatten(1).int() for each in (anchors, others + edge))
        for models, *both in zip(tables.models[place], fine.numpy(), coarse.numpy(), strict=True):
            for codes, model in zip(both, models, strict=True):
                if len(codes):
                    encoder.encode(np.ascontiguousarray(codes), model)
    return encoder.get_compressed()


def read_codes(
    stream: NDArray[np.uint32], groups: int, others: int, heads: Int[Tensor, " lanes"], tables: Tables
) -> tuple[Tensor, Tensor]:
    """Codes of anchors (lanes, groups, dim) and differences (lanes, others, dim) of a bit stream."""
    decoder = _constriction().stream.queue.RangeDecoder(stream)
    dim, edge = tables.counts.shape[1], tables.counts.shape[2] // 2
    fine, coarse = (torch.zeros(len(heads), count, dim, dtype=torch.int16) for count in (groups, others))
    for place, head in enumerate(heads.unique()):
        lanes = (heads == head).nonzero()[:, 0]
        for channel, (normal, table) in enumerate(tables.models[place]):
            for made, model, less in ((fine, normal, 0), (coarse, table, edge)):
                if made.shape[1]:
                    codes = decoder.decode(model, len(lanes) * made.shape[1])
                    made[lanes, :, channel] = torch.from_numpy(codes - less).view(len(lanes), -1).to(torch.int16)
    return fine, coarse


def packed(array: Array) -> Tensor:
    """An array without loss in few bytes, as a tensor of them."""
    return torch.from_numpy(np.frombuffer(bytearray(zlib.compress(array.tobytes(), 9)), dtype=np.uint8))


def unpacked(held: Tensor, kind: Any, shape: tuple[int, ...]) -> Array:
    """The array again."""
    return np.frombuffer(zlib.decompress(held.numpy().tobytes()), dtype=kind).reshape(shape)


def _constriction() -> Any:
    try:
        import constriction
    except ModuleNotFoundError:
        raise MissingExtra("constriction", "coding", "coding a memory into bits") from None
    return constriction
