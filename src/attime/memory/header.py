"""What the header of a saved past tells of its banks, and the banks again."""

import hashlib
import importlib
from collections.abc import Mapping
from typing import IO, Any, final

import torch
from torch import Tensor

from attime.memory.bank import KNOWN, MOVED, Bank
from attime.memory.blocks import Blocks
from attime.memory.buffer import Buffer
from attime.memory.index import Scanned
from attime.memory.parked import Parked
from attime.memory.past import Apart, Past
from attime.memory.pool import PART
from attime.memory.store import Store
from attime.part import Part

__all__ = ["Records", "bank_told", "past_of"]


@final
class Records:
    """What was parked, read from its file from the start to the end."""

    def __init__(self, file: IO[bytes], checksum: Any) -> None:
        self._file, self._sum, self._checksum = file, hashlib.sha256(), checksum

    def read(self, count: int) -> bytearray:
        """The next bytes."""
        found = bytearray(self._file.read(count))
        self._sum.update(found)
        return found

    def check(self) -> None:
        """ValueError where the file is longer or another one."""
        if self._file.read(1) or self._sum.hexdigest() != self._checksum:
            raise ValueError("the file of what was parked is not as it was written")


def bank_told(bank: Bank, root: str, tensors: dict[str, Tensor], parked: list[Parked]) -> dict[str, Any]:
    """What the header says of a bank; its tensors and what it has parked are added to the others'."""
    tensors |= {f"{root}{name}": each.now for name, each in bank.known.items()}
    if bool((bank.when.now == bank.when.now[:1]).all()):
        tensors[f"{root}when"] = bank.when.now[:1]
    tensors |= {f"{root}{name}": each for name in MOVED if (each := getattr(bank, name)) is not None}
    tensors[f"{root}lanes"] = bank.lanes.clone()  # which a bank shares with its near one
    told: dict[str, Any] = {"stores": []}
    for depth, store in enumerate(bank.stores):
        told["stores"].append(f"{type(store).__module__}:{type(store).__name__}")
        tensors |= {f"{root}stores.{depth}.{name}": each for name, each in store.tensors().items()}
    if bank.parked is not None:
        tensors |= {f"{root}parked.{name}": each for name, each in bank.parked.tensors().items()}
        told["parked"] = bank.parked.told()
        parked.append(bank.parked)
    if bank.near is not None:
        told["near"] = bank_told(bank.near, f"{root}near.", tensors, parked)
    return told


def past_of(number: int, told: Mapping[str, Any], tensors: Mapping[str, Tensor], records: Records | None) -> Past:
    """The past that is told of there."""
    banks = [_read_bank(each, tensors, f"{number}.{place}.", records) for place, each in enumerate(told["banks"])]
    queries = tensors.get(f"{number}.queries")
    sizes = {name: told[name] for name in ("heads", "layer", "layers", "seen")}
    apart = None if told["apart"] is None else Apart(**told["apart"])
    return Past(banks=banks, queries=None if queries is None else Buffer(queries), apart=apart, **sizes)


def _read_bank(told: Mapping[str, Any], tensors: Mapping[str, Tensor], root: str, records: Records | None) -> Bank:
    own = {name.removeprefix(root): each for name, each in tensors.items() if name.startswith(root)}
    stores = [_store(kind, own, f"stores.{depth}.", own["lanes"].device) for depth, kind in enumerate(told["stores"])]
    known: dict[str, Any] = {name: Buffer(own[name]) for name in KNOWN if name in own and name != "when"}
    moved = {name: own.get(name) for name in MOVED}
    near = _read_bank(told["near"], tensors, f"{root}near.", records) if "near" in told else None
    when = Buffer(own["when"].expand(len(own["lanes"]), -1))
    bank = Bank(lanes=own["lanes"], stores=stores, when=when, near=near, **moved, **known)
    if "parked" in told:
        parked = {name.removeprefix("parked."): each for name, each in own.items() if name.startswith("parked.")}
        bank.parked = _parked(told["parked"], parked, bank, records)
    return bank


def _parked(told: Mapping[str, Any], own: Mapping[str, Tensor], bank: Bank, records: Records | None) -> Parked:
    if records is None:
        raise ValueError("the file of what was parked is not beside it")
    keys, values = bank.exact.keys(), bank.exact.values()
    width = told["size"] * (keys.shape[2] + values.shape[2])
    pool = _named(told["where"])(**told["where_options"]).open(keys.new_empty(0, width))
    total, numbers = own["first"].numel(), [own["first"].new_zeros(0)]
    for start in range(0, total, PART):
        count = min(PART, total - start)
        read = torch.frombuffer(records.read(count * width * keys.element_size()), dtype=keys.dtype)
        numbers.append(pool.add(read.view(count, width).to(keys.device)))
    index = _named(told["search"])(**told["search_options"]).open if "search" in told else Scanned
    blocks = Blocks.restore(own, told, pool, torch.cat(numbers).view(own["first"].shape), index(own["index"]))
    return Parked.restore(own, told, blocks)


def _store(kind: str, own: Mapping[str, Tensor], root: str, device: torch.device) -> Store:
    made = _named(kind).restore({key.removeprefix(root): each for key, each in own.items() if key.startswith(root)})
    if device.type == "cpu":
        return made
    return type(made).restore({name: each.to(device) for name, each in made.tensors().items()})


def _named(kind: str) -> Any:
    module, name = kind.split(":")
    found = getattr(importlib.import_module(module), name) if module.startswith("attime.memory.") else None
    if not isinstance(found, type) or not issubclass(found, Store | Part):
        raise TypeError(f"{kind} is no store or part of attime")
    return found
