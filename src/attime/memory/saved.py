"""A past on disk: safetensors with all entries, and in its header which model and policy they are of."""

import importlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from attime.errors import AttimeError
from attime.memory.buffer import Buffer
from attime.memory.past import Bank, Past
from attime.memory.store import Store

__all__ = ["load_pasts", "save_pasts"]

FORMAT = "attime-memory-1"


def save_pasts(path: str | Path, pasts: Sequence[Past], *, model: str, policy: str, extra: Mapping[str, Any]) -> None:
    """Write pasts of all layers to one file; an interrupted write leaves no half file behind."""
    tensors: dict[str, Tensor] = {}
    told: list[dict[str, Any]] = []
    for number, past in enumerate(pasts):
        banks = []
        for place, bank in enumerate(past.banks):
            root = f"{number}.{place}"
            known = {name: getattr(bank, name) for name in ("when", "log_mass", "place", "received")}
            tensors |= {f"{root}.{name}": each.now for name, each in known.items() if each is not None}
            tensors |= {
                f"{root}.{name}": each
                for name in ("lanes", "shift", "origin")
                if (each := getattr(bank, name)) is not None
            }
            kinds = []
            for depth, store in enumerate(bank.stores):
                kinds.append(f"{type(store).__module__}:{type(store).__name__}")
                tensors |= {f"{root}.stores.{depth}.{name}": each for name, each in store.tensors().items()}
            banks.append(kinds)
        if past.queries is not None:
            tensors[f"{number}.queries"] = past.queries.now
        told.append(
            {"heads": past.heads, "layer": past.layer, "layers": past.layers, "seen": past.seen, "banks": banks}
        )
    header = {"format": FORMAT, "model": model, "policy": policy, "pasts": told, "extra": dict(extra)}
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        save_file({name: each.contiguous() for name, each in tensors.items()}, part, {"attime": json.dumps(header)})
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        part.unlink(missing_ok=True)
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
        return [_past(number, told, tensors) for number, told in enumerate(header["pasts"])], header["extra"]
    except (KeyError, TypeError, RuntimeError) as error:
        raise AttimeError(f"{path} is damaged: {error!r}.") from None


def _past(number: int, told: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Past:
    banks = []
    for place, kinds in enumerate(told["banks"]):
        root = f"{number}.{place}."
        own = {name.removeprefix(root): each for name, each in tensors.items() if name.startswith(root)}
        stores = [_store(kind, own, f"stores.{depth}.") for depth, kind in enumerate(kinds)]
        known = {name: Buffer(own[name]) if name in own else None for name in ("log_mass", "place", "received")}
        banks.append(
            Bank(
                lanes=own["lanes"],
                stores=stores,
                when=Buffer(own["when"]),
                shift=own.get("shift"),
                origin=own.get("origin"),
                **known,
            )
        )
    queries = tensors.get(f"{number}.queries")
    sizes = {name: told[name] for name in ("heads", "layer", "layers", "seen")}
    return Past(banks=banks, queries=None if queries is None else Buffer(queries), **sizes)


def _store(kind: str, own: Mapping[str, Tensor], root: str) -> Store:
    module, name = kind.split(":")
    if not module.startswith("attime.memory."):
        raise TypeError(f"{kind} is no store of attime")
    found = getattr(importlib.import_module(module), name)
    return found.restore({key.removeprefix(root): each for key, each in own.items() if key.startswith(root)})
