"""Turns of keys, against products of complex numbers."""

from typing import get_args

import pytest
import torch

from attime.errors import AttimeError
from attime.memory.rotary import Rotary, Way

FREQUENCIES = 0.3 ** torch.arange(3)


@pytest.mark.parametrize("way", [way for way in get_args(Way) if way != "unknown"])
def test_a_turn_is_a_product_of_complex_numbers(way: Way) -> None:
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(2, 5, 8, generator=generator, dtype=torch.float64)
    shift = torch.randint(-9, 9, (2, 5), generator=generator)
    turned = Rotary(FREQUENCIES, way)(keys, shift)
    turning = dict(halves=(slice(0, 3), slice(3, 6)), pairs=(slice(0, 6, 2), slice(1, 6, 2)))
    torch.testing.assert_close(turned[..., 6:], keys[..., 6:], rtol=0, atol=0)
    if way == "nothing":
        torch.testing.assert_close(turned, keys, rtol=0, atol=0)
        return
    before, after = (torch.complex(*(each[..., part] for part in turning[way])) for each in (keys, turned))
    by = torch.polar(torch.ones(2, 5, 3, dtype=torch.float64), shift[..., None].double() * FREQUENCIES.double())
    torch.testing.assert_close(after, before * by)
    torch.testing.assert_close(Rotary(FREQUENCIES, way).by(-shift, keys.dtype)(turned), keys)


def test_an_unknown_way_is_told() -> None:
    with pytest.raises(AttimeError, match="contiguous=False"):
        Rotary(FREQUENCIES, "unknown")(torch.zeros(1, 1, 8), torch.zeros(1, 1))
