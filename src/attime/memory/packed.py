"""Codes of 1, 2, 4 or 8 bits, really packed into bytes.

A byte holds codes of channels that lie dim / parts apart, parts = 8 / bits: what is unpacked are `parts` contiguous pieces.
"""

import torch
from jaxtyping import Num, Shaped, UInt8
from torch import Tensor

__all__ = ["joined", "pack", "split", "unpack"]


def pack(codes: UInt8[Tensor, "*axes dim"], bits: int) -> UInt8[Tensor, "*axes packed"]:
    """Codes below 2^bits in as few bytes as they need; dim is a multiple of 8 / bits."""
    parts = codes.unflatten(-1, (8 // bits, -1)).unbind(-2)
    packed = parts[0].clone()
    for number, part in enumerate(parts[1:], 1):
        packed |= part << (bits * number)
    return packed


def unpack(
    packed: UInt8[Tensor, "*axes packed"], bits: int, dtype: torch.dtype = torch.uint8
) -> Num[Tensor, "parts *axes packed"]:
    """The codes as numbers of this dtype, one piece of the channels after the other."""
    if bits == 8:
        return packed.to(dtype)[None]
    made = torch.empty(8 // bits, *packed.shape, dtype=dtype, device=packed.device)
    for number, part in enumerate(made):
        shifted = packed >> (bits * number) if number else packed
        part.copy_(shifted if number == len(made) - 1 else shifted & (2**bits - 1))
    return made


def split(x: Shaped[Tensor, "*axes dim"], parts: int) -> Shaped[Tensor, "parts *axes part"]:
    """Numbers by channel in the pieces that `unpack` gives."""
    return x.unflatten(-1, (parts, -1)).movedim(-2, 0)


def joined(pieces: Shaped[Tensor, "parts *axes part"]) -> Shaped[Tensor, "*axes dim"]:
    """The channels of all pieces side by side."""
    return pieces[0] if len(pieces) == 1 else pieces.movedim(0, -2).flatten(-2)
