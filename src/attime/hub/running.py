"""Which modules of sites compute now, in each thread, and what they were called with."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from attime.site import Site

__all__ = ["Running", "Thread", "hidden_states", "packed", "this_thread", "unpacked"]


@dataclass
class Running:
    """A module of a site that computes now."""

    path: str
    hidden: Tensor | None
    rotary: tuple[Tensor, Tensor] | None
    stream: Tensor | None
    """What the block around it was given."""
    calls: int = 0
    """Of attention, so far."""


@dataclass
class Thread(threading.local):
    """What runs in this thread, the innermost last, and what blocks were given whose attention has not begun."""

    running: list[Running] = field(default_factory=list)
    streams: dict[str, Tensor] = field(default_factory=dict)


this_thread: Callable[[], int] = torch.compiler.disable(lambda: threading.get_ident())  # pyright: ignore
"""The number of this thread; a compiler cannot look into it."""


def hidden_states(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """The hidden states that a module is called with."""
    hidden = kwargs.get("hidden_states", args[0] if args else None)
    return hidden if isinstance(hidden, Tensor) else None


def packed(query: Tensor, hidden: Tensor | None, site: Site) -> bool:
    """Whether the heads that share keys stand where queries do, as transformers has them for one token with a mask."""
    one = hidden is not None and hidden.ndim == 3 and hidden.shape[1] == 1
    return one and query.shape[1] < site.heads == query.shape[1] * query.shape[2]


def unpacked(heads: Tensor) -> Tensor:
    """(batch shared heads dim) as (batch heads 1 dim)."""
    return heads.reshape(len(heads), -1, 1, heads.shape[-1])
