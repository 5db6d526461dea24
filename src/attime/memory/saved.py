"""A past on disk: safetensors with all entries, and in its header which model and policy they are of."""

import importlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from attime.errors import AttimeError
from attime.memory.buffer import Buffer
from attime.memory.coded import Coder
from attime.memory.index import Scanned
from attime.memory.parked import Parked
from attime.memory.past import Apart, Bank, Past
from attime.memory.pool import PART
from attime.memory.store import Store

__all__ = ["load_pasts", "save_pasts"]

FORMAT = "attime-memory-2"


def save_pasts(
    path: str | Path,
    pasts: Sequence[Past],
    *,
    model: str,
    policy: str,
    extra: Mapping[str, Any],
    coder: Coder | None = None,
) -> None:
    """Write pasts of all layers to one file, and what is parked, if anything, to a second beside it (`.parked`).

    With a coder, exact stores are written as its bits and read back as coarse as its level is. An interrupted write leaves
    no half file behind.
    """
    tensors: dict[str, Tensor] = {}
    told: list[dict[str, Any]] = []
    parked: list[Parked] = []
    for number, past in enumerate(pasts):
        banks = []
        for place, bank in enumerate(past.banks):
            banks.append(
                _bank(bank if coder is None else coder.bank(bank, past), f"{number}.{place}.", tensors, parked)
            )
        if past.queries is not None:
            tensors[f"{number}.queries"] = past.queries.now
        sizes = {name: getattr(past, name) for name in ("heads", "layer", "layers", "seen")}
        told.append(sizes | {"banks": banks, "apart": None if past.apart is None else asdict(past.apart)})
    header = {"format": FORMAT, "model": model, "policy": policy, "pasts": told, "extra": dict(extra)}
    path = Path(path)
    part, beside = path.with_name(path.name + ".part"), path.with_name(path.name + ".parked.part")
    try:
        if parked:
            with beside.open("wb") as file:
                for each in parked:
                    for records in each.pool.parts(each.numbers.now.flatten()):
                        numbers: Any = records.cpu().contiguous().view(torch.uint8).numpy()
                        file.write(memoryview(numbers))
        save_file({name: each.contiguous() for name, each in tensors.items()}, part, {"attime": json.dumps(header)})
        if parked:
            os.replace(beside, _beside(path))
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        part.unlink(missing_ok=True)
        beside.unlink(missing_ok=True)
        raise AttimeError(
            f"the memory could not be written to {path}: {error}; nothing of it is lost, it is still in use."
        ) from None


def load_pasts(path: str | Path, *, model: str, policy: str) -> tuple[list[Past], dict[str, Any]]:
    """The pasts that were saved for this model and policy, and what was saved with them."""
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["attime"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise AttimeError(f"{path} is not a saved memory that can be read: {error!r}.") from None
    for name, ours in (("format", FORMAT), ("model", model), ("policy", policy)):
        if header.get(name) != ours:
            raise AttimeError(f"{path} was saved with another {name}: it has {header.get(name)}, here is {ours}.")
    try:
        with ExitStack() as stack:
            beside = _beside(Path(path))
            records = stack.enter_context(beside.open("rb")) if beside.exists() else None
            pasts = [_past(number, told, tensors, records) for number, told in enumerate(header["pasts"])]
        return pasts, header["extra"]
    except (KeyError, TypeError, RuntimeError, ValueError, OSError) as error:
        raise AttimeError(f"{path} is damaged: {error!r}.") from None


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".parked")


def _bank(bank: Bank, root: str, tensors: dict[str, Tensor], parked: list[Parked]) -> dict[str, Any]:
    """What the header says of a bank; its tensors and what it has parked are added to the others'."""
    known = {name: getattr(bank, name) for name in ("when", "log_mass", "place", "received")}
    tensors |= {f"{root}{name}": each.now for name, each in known.items() if each is not None}
    if bool((bank.when.now == bank.when.now[:1]).all()):
        tensors[f"{root}when"] = bank.when.now[:1]
    tensors |= {
        f"{root}{name}": each for name in ("lanes", "shift", "origin") if (each := getattr(bank, name)) is not None
    }
    told: dict[str, Any] = {"stores": []}
    for depth, store in enumerate(bank.stores):
        told["stores"].append(f"{type(store).__module__}:{type(store).__name__}")
        tensors |= {f"{root}stores.{depth}.{name}": each for name, each in store.tensors().items()}
    if bank.parked is not None:
        tensors |= {f"{root}parked.{name}": each for name, each in bank.parked.tensors().items()}
        told["parked"] = bank.parked.told()
        parked.append(bank.parked)
    if bank.near is not None:
        told["near"] = _bank(bank.near, f"{root}near.", tensors, parked)
    return told


def _past(number: int, told: Mapping[str, Any], tensors: Mapping[str, Tensor], records: IO[bytes] | None) -> Past:
    banks = [_read_bank(each, tensors, f"{number}.{place}.", records) for place, each in enumerate(told["banks"])]
    queries = tensors.get(f"{number}.queries")
    sizes = {name: told[name] for name in ("heads", "layer", "layers", "seen")}
    apart = None if told["apart"] is None else Apart(**told["apart"])
    return Past(banks=banks, queries=None if queries is None else Buffer(queries), apart=apart, **sizes)


def _read_bank(told: Mapping[str, Any], tensors: Mapping[str, Tensor], root: str, records: IO[bytes] | None) -> Bank:
    own = {name.removeprefix(root): each for name, each in tensors.items() if name.startswith(root)}
    stores = [_store(kind, own, f"stores.{depth}.") for depth, kind in enumerate(told["stores"])]
    known: dict[str, Any] = {
        name: Buffer(own[name]) if name in own else None for name in ("log_mass", "place", "received")
    }
    moved = {name: own.get(name) for name in ("shift", "origin")}
    near = _read_bank(told["near"], tensors, f"{root}near.", records) if "near" in told else None
    when = Buffer(own["when"].expand(len(own["lanes"]), -1))
    bank = Bank(lanes=own["lanes"], stores=stores, when=when, near=near, **moved, **known)
    if "parked" in told:
        parked = {name.removeprefix("parked."): each for name, each in own.items() if name.startswith("parked.")}
        bank.parked = _parked(told["parked"], parked, bank, records)
    return bank


def _parked(told: Mapping[str, Any], own: Mapping[str, Tensor], bank: Bank, records: IO[bytes] | None) -> Parked:
    if records is None:
        raise ValueError("the file of what was parked is not beside it")
    keys, values = bank.exact.keys(), bank.exact.values()
    width = told["size"] * (keys.shape[2] + values.shape[2])
    pool = _named(told["where"])(**told["where_options"]).open(keys.new_empty(0, width))
    total, numbers = own["first"].numel(), [own["first"].new_zeros(0)]
    for start in range(0, total, PART):
        count = min(PART, total - start)
        read = bytearray(records.read(count * width * keys.element_size()))
        numbers.append(pool.add(torch.frombuffer(read, dtype=keys.dtype).view(count, width)))
    index = _named(told["search"])(**told["search_options"]).open if "search" in told else Scanned
    return Parked.restore(own, told, pool, torch.cat(numbers).view(own["first"].shape), index(own["index"]))


def _store(kind: str, own: Mapping[str, Tensor], root: str) -> Store:
    return _named(kind).restore({key.removeprefix(root): each for key, each in own.items() if key.startswith(root)})


def _named(kind: str) -> Any:
    module, name = kind.split(":")
    if not module.startswith("attime.memory."):
        raise TypeError(f"{kind} is no part of attime")
    return getattr(importlib.import_module(module), name)
