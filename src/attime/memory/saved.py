"""A past on disk: safetensors with all entries, and in its header which model and policy they are of, and a checksum."""

import hashlib
import importlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from attime.errors import AttimeError
from attime.memory.bank import KNOWN, MOVED
from attime.memory.blocks import Blocks
from attime.memory.buffer import Buffer
from attime.memory.coded import Coder
from attime.memory.index import Scanned
from attime.memory.parked import Parked
from attime.memory.past import Apart, Bank, Past
from attime.memory.pool import PART
from attime.memory.store import Store
from attime.part import Part

__all__ = ["load_pasts", "save_pasts"]

FORMAT = "attime-memory-3"


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

    With a coder, exact stores are written as its bits, as coarse as its level is. A write cut short leaves no file behind.
    """
    tensors: dict[str, Tensor] = {}
    told: list[dict[str, Any]] = []
    parked: list[Parked] = []
    for number, past in enumerate(pasts):
        banks = []
        for place, bank in enumerate(past.banks):
            held = bank if coder is None else coder.bank(bank, past)
            banks.append(_bank(held, f"{number}.{place}.", tensors, parked))
        if past.queries is not None:
            tensors[f"{number}.queries"] = past.queries.now
        sizes = {name: getattr(past, name) for name in ("heads", "layer", "layers", "seen")}
        told.append(sizes | {"banks": banks, "apart": None if past.apart is None else asdict(past.apart)})
    path = Path(path).resolve()
    part, beside = path.parent / f"{path.name}.part", path.parent / f"{path.name}.parked.part"
    try:
        if path.exists() and not path.is_file():
            raise OSError("that is a folder, a device or the like")
        header = {"format": FORMAT, "model": model, "policy": policy, "pasts": told, "extra": dict(extra)}
        text = json.dumps(header | {"parked": _written(parked, beside) if parked else None})
        whole = _apart(tensors)
        part.touch()
        mode = part.stat().st_mode  # which save_file does not keep to
        save_file(whole, part, {"attime": text, "checksum": _checksum(text, whole)})
        part.chmod(mode)
        if parked:
            os.replace(beside, _beside(path))
        os.replace(part, path)
        if not parked:  # one that was saved here before may have had some
            with suppress(OSError):
                _beside(path).unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise AttimeError(
            f"the memory could not be written to {path}: {error}; nothing of it is lost: give another path, or make room."
        ) from None
    finally:
        for each in (part, beside):
            with suppress(OSError):
                each.unlink(missing_ok=True)


def load_pasts(
    path: str | Path, *, model: str, policy: str, device: torch.device | None = None
) -> tuple[list[Past], dict[str, Any]]:
    """The pasts that were saved for this model and policy, on this device, and what was saved with them."""
    path = Path(path)
    header, tensors = _read(path)
    for name, ours in (("model", model), ("policy", policy)):
        if header.get(name) != ours:
            raise AttimeError(
                f"{path} was saved with another {name}: it has {header.get(name)}, here is {ours}; load it with its own."
            )
    if device is not None:  # stores are read where they were written: some are bits that a library decodes
        tensors = {name: each if ".stores." in name else each.to(device) for name, each in tensors.items()}
    try:
        with nullcontext() if header["parked"] is None else _beside(path).open("rb") as file:
            records = None if file is None else _Records(file, header["parked"])
            pasts = [_past(number, told, tensors, records) for number, told in enumerate(header["pasts"])]
            if records is not None:
                records.check()
        return pasts, dict(header["extra"])
    except AttimeError:
        raise
    except OSError as error:
        raise AttimeError(
            f"what {path} had parked could not be read in: {error}; keep {_beside(path).name} beside it, and make room."
        ) from None
    except (AttributeError, ImportError, LookupError, TypeError, RuntimeError, ValueError) as error:
        raise AttimeError(f"{path} is damaged: {error!r}; save the memory again.") from None


@final
class _Records:
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


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors, as they were written."""
    try:
        with safe_open(path, framework="pt") as file:
            known = file.metadata() or {}
            header = json.loads(known["attime"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise AttimeError(f"{path} is not a saved memory that can be read: {error!r}; save the memory again.") from None
    theirs = header.get("format") if isinstance(header, dict) else None
    sound = known.get("checksum") == _checksum(known["attime"], tensors)
    if theirs != FORMAT and (sound or "checksum" not in known):
        raise AttimeError(
            f"{path} was saved with another format: it has {theirs}, here is {FORMAT}; save the memory with this version."
        )
    if not sound:
        raise AttimeError(f"{path} is damaged: its checksum is another one; save the memory again.")
    return header, tensors


def _checksum(header: str, tensors: Mapping[str, Tensor]) -> str:
    made = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        made.update(f"{name} {tensors[name].dtype} {list(tensors[name].shape)}".encode())
        made.update(_bytes(tensors[name]))
    return made.hexdigest()


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same, none of which shares memory with another."""
    made, seen = dict[str, Tensor](), set[int]()
    for name, each in tensors.items():
        own = each.contiguous()
        made[name] = own.clone() if own.untyped_storage().data_ptr() in seen else own
        seen.add(made[name].untyped_storage().data_ptr())
    return made


def _bytes(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()


def _written(parked: Sequence[Parked], path: Path) -> str:
    """Write all that is parked; the checksum of it."""
    made = hashlib.sha256()
    with path.open("wb") as file:
        for each in parked:
            for records in each.blocks.pool.parts(each.blocks.numbers.now.flatten()):
                made.update(held := _bytes(records))
                file.write(held)
    return made.hexdigest()


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".parked")


def _bank(bank: Bank, root: str, tensors: dict[str, Tensor], parked: list[Parked]) -> dict[str, Any]:
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
        told["near"] = _bank(bank.near, f"{root}near.", tensors, parked)
    return told


def _past(number: int, told: Mapping[str, Any], tensors: Mapping[str, Tensor], records: _Records | None) -> Past:
    banks = [_read_bank(each, tensors, f"{number}.{place}.", records) for place, each in enumerate(told["banks"])]
    queries = tensors.get(f"{number}.queries")
    sizes = {name: told[name] for name in ("heads", "layer", "layers", "seen")}
    apart = None if told["apart"] is None else Apart(**told["apart"])
    return Past(banks=banks, queries=None if queries is None else Buffer(queries), apart=apart, **sizes)


def _read_bank(told: Mapping[str, Any], tensors: Mapping[str, Tensor], root: str, records: _Records | None) -> Bank:
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


def _parked(told: Mapping[str, Any], own: Mapping[str, Tensor], bank: Bank, records: _Records | None) -> Parked:
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
