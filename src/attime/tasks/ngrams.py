r"""Witten-Bell n-grams over bytes: what counting alone makes of a text.

    P_n(w | h) = (c(h w) + T(h) P_{n-1}(w | h')) / (c(h) + T(h))        T(h) = kinds of bytes seen after h

Source:  I. Witten, T. Bell, The zero-frequency problem, IEEE Trans. Information Theory 37 (1991), method C.
Names:   h is the last n - 1 bytes, h' the last n - 2; P_0 = 1/256.
Cost:    a sort of the training text per order; a search and 256 numbers per prediction and order.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Counts", "counted", "witten_bell"]

BYTES = 256


@dataclass(frozen=True)
class Counts:
    """The n-grams of one order: sorted contexts, and for each the bytes after it with their counts."""

    contexts: NDArray[np.int64]
    starts: NDArray[np.int64]
    following: NDArray[np.uint8]
    counts: NDArray[np.float32]


def counted(text: NDArray[np.uint8], order: int) -> Counts:
    """Counts of all n-grams of `order` bytes (at most 7)."""
    grams = np.zeros(len(text) - order + 1, dtype=np.int64)
    for place in range(order):
        grams = (grams << 8) | text[place : len(grams) + place]
    grams.sort()
    edges = np.flatnonzero(np.concatenate([[True], grams[1:] != grams[:-1]]))
    counts = np.diff(np.append(edges, len(grams))).astype(np.float32)
    grams = grams[edges]
    before = grams >> 8
    starts = np.flatnonzero(np.concatenate([[True], before[1:] != before[:-1]]))
    return Counts(before[starts], np.append(starts, len(grams)), (grams & 255).astype(np.uint8), counts)


def witten_bell(
    tables: list[Counts], windows: NDArray[np.uint8], known: NDArray[np.int64]
) -> NDArray[np.float32]:
    """(places, 256) probabilities of the next byte after `windows` (places, context), oldest byte first.

    `known` says how many of a place's context bytes are real; an order that needs more is left out there. `tables` are
    the counts of orders 1, 2, ...
    """
    chances = np.full((len(windows), BYTES), 1 / BYTES, dtype=np.float32)
    key = np.zeros(len(windows), dtype=np.int64)
    for order, table in enumerate(tables, 1):
        if order > 1:
            key |= windows[:, -(order - 1)].astype(np.int64) << (8 * (order - 2))
        at = np.searchsorted(table.contexts, key)
        at[at == len(table.contexts)] = 0
        rows = np.flatnonzero((table.contexts[at] == key) & (known >= order - 1))
        first, last = table.starts[at[rows]], table.starts[at[rows] + 1]
        kinds = last - first
        entries = np.repeat(first - np.concatenate([[0], np.cumsum(kinds)[:-1]]), kinds) + np.arange(kinds.sum())
        owner = np.repeat(np.arange(len(rows)), kinds)
        counts = table.counts[entries]
        total = np.bincount(owner, counts, minlength=len(rows)) + kinds
        mixed = chances[rows] * (kinds / total).astype(np.float32)[:, None]
        mixed[owner, table.following[entries]] += counts / total[owner].astype(np.float32)
        chances[rows] = mixed
    return chances
