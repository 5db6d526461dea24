"""A past on disk: safetensors with all entries, and in its header which model and policy they are of, and a checksum."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from attime.errors import AttimeError
from attime.memory.coded import Coder
from attime.memory.header import Records, bank_told, past_of
from attime.memory.parked import Parked
from attime.memory.past import Past

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
            banks.append(bank_told(held, f"{number}.{place}.", tensors, parked))
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
        whole = _unshared(tensors)
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
            records = None if file is None else Records(file, header["parked"])
            pasts = [past_of(number, told, tensors, records) for number, told in enumerate(header["pasts"])]
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


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
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
