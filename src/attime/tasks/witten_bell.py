r"""Counting with Witten-Bell smoothing: what a table of contexts makes of a sequence of symbols.

    P_n(w | h_n) = (c(h_n, w) + T(h_n) P_{n-1}(w | h_{n-1})) / (c(h_n) + T(h_n))        P_0(w) = 1 / vocabulary

Source:  I. Witten, T. Bell, The zero-frequency problem, IEEE Trans. Information Theory 37 (1991), method C.
Names:   h_1, h_2, ... are contexts from coarse to fine, given as whole numbers (for n-grams: the last n - 1 symbols);
         c counts, T is how many different symbols followed h.
Cost:    a sort of the training symbols per level; a search and one row of the vocabulary per prediction and level.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["UNKNOWN", "Counts", "counted", "witten_bell"]

UNKNOWN = -1  # a context that is not there, such as two symbols back at the second symbol


@dataclass(frozen=True)
class Counts:
    """One level: the contexts, sorted, and for each the symbols that followed and how often."""

    contexts: NDArray[np.int64]
    starts: NDArray[np.int64]
    symbols: NDArray[np.int64]
    counts: NDArray[np.float32]


def counted(contexts: NDArray[np.int64], symbols: NDArray[Any], vocabulary: int) -> Counts:
    """Counts of symbols after contexts; unknown contexts are left out."""
    known = contexts >= 0
    keys = np.sort(contexts[known] * vocabulary + symbols[known])
    edges = np.flatnonzero(np.diff(keys, prepend=-1))
    counts = np.diff(edges, append=len(keys)).astype(np.float32)
    before, symbols = np.divmod(keys[edges], vocabulary)
    starts = np.flatnonzero(np.diff(before, prepend=-1))
    return Counts(before[starts], np.append(starts, len(before)), symbols, counts)


def witten_bell(
    tables: Sequence[Counts], contexts: Sequence[NDArray[np.int64]], vocabulary: int
) -> NDArray[np.float32]:
    """(places, vocabulary) probabilities from the counts of every level and the places' contexts at every level."""
    chances = np.full((len(contexts[0]), vocabulary), 1 / vocabulary, dtype=np.float32)
    for table, context in zip(tables, contexts, strict=True):
        at = np.searchsorted(table.contexts, context)
        at[at == len(table.contexts)] = 0
        rows = np.flatnonzero(table.contexts[at] == context)
        first, last = table.starts[at[rows]], table.starts[at[rows] + 1]
        kinds = last - first
        entries = np.repeat(first - np.cumsum(kinds) + kinds, kinds) + np.arange(kinds.sum())
        owner = np.repeat(np.arange(len(rows)), kinds)
        counts = table.counts[entries]
        total = np.bincount(owner, counts, minlength=len(rows)) + kinds
        mixed = chances[rows] * (kinds / total).astype(np.float32)[:, None]
        mixed[owner, table.symbols[entries]] += counts / total[owner].astype(np.float32)
        chances[rows] = mixed
    return chances
