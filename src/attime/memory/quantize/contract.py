"""How entries leave the exact store of a bank: in whole groups, never the sinks, and each of them once."""

from collections.abc import Callable, Sequence

import torch

from attime.errors import AttimeError
from attime.memory.past import Bank, Past
from attime.memory.quantize.interleaved import Interleaved
from attime.memory.quantize.quantized import Quantized, check_widths
from attime.memory.store import Entries, Store

__all__ = ["check_bits", "check_dims", "fewer_stores", "settle"]


def check_bits(who: object, *, bits: Sequence[int], sinks: int, recent: int, every: int) -> None:
    """AttimeError for options that make no sense together."""
    if any(each not in (2, 4, 8) for each in bits) or sinks < 0 or recent < 0 or every < 1:
        raise AttimeError(
            f"{type(who).__name__} needs bits of 2, 4 or 8, sinks >= 0, recent >= 0 and every >= 1; "
            f"got bits={bits}, sinks={sinks}, recent={recent}, every={every}."
        )


def check_dims(past: Past, bits: Sequence[int]) -> None:
    """AttimeError where a model's heads cannot be kept in these bits."""
    for bank in past.banks:
        check_widths(bank.keys(), bank.values(), min(bits))


def settle(bank: Bank, coded: Callable[[Entries, Entries, int], Store], *, sinks: int, recent: int, every: int) -> None:
    """What is not recent leaves the exact store in groups of `every`: never the sinks, and nobody twice.

    `coded(keys, values, first)` makes the store of those that leave; the first of them has this number in the bank.
    """
    start = min(sinks, bank.exact.length) if len(bank.stores) == 1 else 0
    count = (bank.exact.length - start - recent) // every * every
    if count <= 0:
        return
    first, stop = bank.length - bank.exact.length + start, start + count

    def moved(stores: list[Store]) -> list[Store]:
        exact = stores[-1]
        slot = torch.arange(exact.length, device=bank.lanes.device).expand(len(bank.lanes), -1)
        kept = [exact.select(slot[:, :start])] if start else []
        made = coded(exact.keys()[:, start:stop], exact.values()[:, start:stop], first)
        return fewer_stores([*stores[:-1], *kept, made, exact.select(slot[:, stop:], room=every)])

    bank.keep_in(moved)


def fewer_stores(stores: Sequence[Store]) -> list[Store]:
    """Neighbours of one format become one store."""
    made = list[Store]()
    for store in stores:
        last = made[-1] if made else None
        if isinstance(last, Quantized | Interleaved) and last.alike(store):
            made[-1] = last.join(store)  # type: ignore[arg-type]
        else:
            made.append(store)
    return made
