r"""Contexts read apart stand side by side behind one prefix: each was read once, alone, and none is nearer than another.

    o_c, L_c: attention to the contexts, logits q . k / (sqrt(d) T)          o_o, L_o: to everything else, as ever
    out = w_c o_c + w_o o_o,    (w_c, w_o) = softmax(S T L_c, L_o),    L the log of the sum of exp of the logits

Source:  APE (adaptive parallel encoding), arXiv 2502.05431, sec. 4 (shared prefix, temperature, scale) and its public code,
         where the log-mass of the contexts is multiplied by S T.
Names:   `temperature` is T, `scale` S. T = S = 1 is plain parallel encoding.
Cost:    contexts are read once for all questions; a question costs what it costs after all of them in a row.
Differs: one softmax in which the contexts' logits are q . k / (sqrt(d) T) + (S T - 1) L_c: the same weights.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from attime.errors import AttimeError
from attime.memory.buffer import Buffer
from attime.memory.past import Apart, Bank, Past
from attime.memory.store import Exact, Store

__all__ = ["join"]


def join(prefix: Past, contexts: Sequence[Past], *, temperature: float = 0.9, scale: float = 0.9) -> Past:
    """The past of the prefix and of all contexts, each of which went on from the prefix; what was given stays as it is.

    Contexts keep the positions they were read at; what comes next stands behind the longest.
    """
    if not contexts or temperature <= 0 or scale <= 0:
        raise AttimeError(
            f"join needs at least one context, temperature > 0 and scale > 0; "
            f"got {len(contexts)} contexts, temperature={temperature}, scale={scale}."
        )
    start = prefix.seen
    if any(each.apart is not None for each in (prefix, *contexts)) or any(each.seen < start for each in contexts):
        raise AttimeError(
            "join needs contexts that each went on from the prefix by themselves: read them after copies of it."
        )
    if any(each.scoring is not None and each.scoring.window is not None for each in contexts):
        raise AttimeError("join needs a model whose tokens see everything; this layer has a window of its own.")
    own = [_after(each, start) for each in contexts]
    first = _after(prefix, 0)
    if any(not torch.equal(_lanes(each), _lanes(first)) for each in own):
        raise AttimeError(
            "join needs heads that keep equally many entries: read prefix and contexts under another policy."
        )
    if any(_parked(each) != _parked(first) for each in own):
        raise AttimeError(
            "join needs contexts of which nothing is parked: read them under a window that is longer than each of them."
        )
    lengths = [each.seen - start for each in contexts]
    offsets = [sum(lengths[:number]) for number in range(len(lengths))]
    banks = [_bank(each, offsets) for each in zip(first.banks, *(each.banks for each in own), strict=True)]
    apart = Apart(start, start + sum(lengths), sum(lengths) - max(lengths), temperature, scale)
    made = replace(prefix, banks=banks, seen=apart.stop, queries=None, apart=apart, scoring=contexts[0].scoring)
    made.settle()
    return made


def _after(past: Past, start: int) -> Past:
    """A copy of the entries from this token on, as they came and where they came."""
    made = copy.deepcopy(replace(past, queries=None))
    for bank in made.banks:
        bank.stand()
    made.drop([bank.when.now >= start for bank in made.banks])
    return made


def _parked(past: Past) -> list[int]:
    """Entries per lane that wait apart."""
    return [0 if bank.parked is None else bank.parked.entries for bank in past.banks]


def _lanes(past: Past) -> Tensor:
    """Which lanes lie together."""
    return torch.cat([torch.cat([bank.lanes, bank.lanes.new_tensor([-1])]) for bank in past.banks])


def _bank(parts: Sequence[Bank], offsets: Sequence[int]) -> Bank:
    """One bank of the prefix's entries and then those of each context, whose tokens are numbered on."""
    stores: list[Store] = []
    for store in (store for part in parts for store in part.stores if store.length or part is parts[-1]):
        last = stores[-1] if stores else None
        if isinstance(last, Exact) and isinstance(store, Exact):
            last.append(store.keys(), store.values())
        else:
            stores.append(store)
    numbers = [part.when.now + offset for part, offset in zip(parts, (0, *offsets), strict=True)]
    places = [part.when.now[..., None].expand(-1, -1, 2) if part.place is None else part.place.now for part in parts]
    known: dict[str, Buffer | None] = {"when": Buffer(torch.cat(numbers, 1)), "place": Buffer(torch.cat(places, 1))}
    for name in ("log_mass", "received"):
        found = [getattr(part, name) for part in parts]
        whole = [
            torch.zeros(part.when.now.shape) if each is None else each.now
            for part, each in zip(parts, found, strict=True)
        ]
        known[name] = None if all(each is None for each in found) else Buffer(torch.cat(whole, dim=1))
    return replace(parts[0], stores=stores, shift=None, origin=None, **known)
