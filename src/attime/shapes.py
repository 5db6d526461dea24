"""Axis names and their checks: layouts are asserted at the public edge, once."""

from torch import Tensor

from attime.errors import AttimeError

__all__ = ["check_axes"]


def check_axes(x: Tensor, axes: str, *, who: object, **sizes: int) -> None:
    """Raise unless `x` has the named `axes` (`"batch time dim"`), none of them empty, and the given sizes.

    `who` is the part that asks (or its name); it and the sizes it was built with go into the message.
    """
    names = axes.split()
    given = dict(zip(names, x.shape, strict=True)) if x.dim() == len(names) else {}
    wrong = not given or any(given[name] != size for name, size in sizes.items())
    if not (wrong or 0 in given.values()):
        return
    who = who if isinstance(who, str) else type(who).__name__
    built = ", ".join(f"{name}={size}" for name, size in sizes.items())
    came = "x".join(map(str, x.shape))
    if not given:
        raise AttimeError(f"{who} needs a tensor ({axes}); got {x.dim()} axes of sizes {came}.")
    if wrong:
        got = ", ".join(f"{name}={given[name]}" for name, size in sizes.items() if given[name] != size)
        raise AttimeError(f"{who} was built with {built}; got {got} in a tensor ({axes}) of sizes {came}.")
    raise AttimeError(f"{who} needs at least one entry on every axis; got a tensor ({axes}) of sizes {came}.")
