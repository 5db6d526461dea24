"""Heads by the site where they are."""

from collections.abc import Sequence

from attime.control.contract import Call
from attime.errors import AttimeError

__all__ = ["Head", "chosen_heads"]

Head = tuple[str, int]
"""The path of a site and the number of a head."""


def chosen_heads(chosen: Sequence[Head] | None, call: Call) -> list[int]:
    """The numbers of those that are at the site of this call; None: all heads."""
    heads = call.q.shape[1]
    if chosen is None:
        return list(range(heads))
    here = [head for name, head in chosen if name == call.site.name]
    if any(not 0 <= head < heads for head in here):
        raise AttimeError(f"{call.site.name} has heads 0 to {heads - 1}; got {here}.")
    return here
