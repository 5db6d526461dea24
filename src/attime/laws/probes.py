"""What laws probe mixers with: clips, comparisons, and how many examples hypothesis draws."""

import torch
from hypothesis import HealthCheck, settings
from torch import Tensor

from attime.attention.contract import Mixer

__all__ = ["LENGTH", "clip", "close", "few"]

LENGTH = 13  # odd, prime, longer than every example's window
EXACT = (1e-7, 1e-8)  # rtol, atol in float64


def clip(mixer: Mixer, *, seed: int = 1, dtype: torch.dtype = torch.float64, long: bool = False) -> Tensor:
    """Random inputs of the mixer's axes, two rows; the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2, 5, 7, 6, mixer.dim) if mixer.traits.grid else (2, 77 if long else LENGTH, mixer.dim)
    return torch.randn(shape, generator=generator, dtype=dtype)


def close(
    ours: Tensor, theirs: Tensor, message: str, *, exact: bool = False, rtol: float = EXACT[0], atol: float = EXACT[1]
) -> None:
    """Equal within tolerance, or an AssertionError that begins with `message`."""
    rtol, atol = (0.0, 0.0) if exact else (rtol, atol)
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol, msg=lambda detail: f"{message}\n{detail}")


def few(examples: int) -> settings:
    """Settings for a property inside a law: the same few examples every time, no deadline."""
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.nested_given],
    )
