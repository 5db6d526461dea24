"""Weights and cards of the zoo on disk: safetensors in float16 and JSON, in the package or in a folder of yours."""

import importlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from attime.errors import AttimeError, MissingExtra
from attime.zoo.contract import Pretrained

__all__ = ["MODELS", "find", "load", "names", "save"]

SHIPPED = Path(__file__).parent / "weights"
MODELS = {
    "bytes": "text:Bytes",
    "recall": "recall:Recaller",
    "watcher": "watcher:Watcher",
    "listener": "listener:Listener",
    "painter": "painter:WanPainter",
    "painter-free": "painter:FreeWanPainter",
    "painter-latte": "painter:LattePainter",
    "painter-latte-free": "painter:FreeLattePainter",
}


def names() -> Sequence[str]:
    """What the zoo holds."""
    return tuple(MODELS)


def find(name: str) -> type[Pretrained]:
    """The class of a model of the zoo, with its recipe."""
    if name not in MODELS:
        raise AttimeError(f"the zoo has no {name!r}; it has {', '.join(MODELS)}.")
    module, kind = MODELS[name].split(":")
    try:
        return getattr(importlib.import_module(f"attime.zoo.{module}"), kind)
    except ModuleNotFoundError as error:
        if error.name in ("transformers", "diffusers"):
            raise MissingExtra(error.name, "hub", f"the zoo's {name}") from error
        raise


def save(made: Pretrained, folder: str | Path | None = None) -> Path:
    """Write weights (float16) and card into `folder`, or into the package; returns the file of the weights."""
    folder = SHIPPED if folder is None else Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: (weight.half() if weight.is_floating_point() else weight).contiguous().cpu()
        for name, weight in made.model.state_dict().items()
        if name not in _tied(made)
    }
    path = folder / f"{made.name}.safetensors"
    save_file(weights, path)
    path.chmod(0o644)
    path.with_suffix(".json").write_text(json.dumps(made.card, indent=1) + "\n")
    return path


def load(name: str, folder: str | Path | None = None, *, device: str = "cpu") -> Pretrained:
    """A model of the zoo, ready to use; with `folder` the one that `attime zoo train NAME --out folder` made."""
    kind = find(name)
    path = (SHIPPED if folder is None else Path(folder)) / f"{name}.safetensors"
    if not path.is_file():
        make = f"attime zoo train {name}" + ("" if folder is None else f" --out {folder}")
        raise AttimeError(f"there are no weights of {name} at {path.parent}; make them with: {make}")
    model = kind.build()
    try:
        weights = {key: value.float() if value.is_floating_point() else value for key, value in load_file(path).items()}
        missing, unknown = model.load_state_dict(weights, strict=False)
        if unknown or set(missing) - _tied(kind(model)):
            raise AttimeError(f"{path} is not of this {name}: it lacks {missing[:3]} and has also {unknown[:3]}.")
        card = json.loads(path.with_suffix(".json").read_text())
    except (SafetensorError, RuntimeError, OSError, json.JSONDecodeError) as error:
        raise AttimeError(f"{path} does not hold a {name} that this version can read: {error}.") from None
    return kind(model.to(device), card)


def _tied(made: Pretrained) -> set[str]:
    """Names of weights that are another weight's memory: written once."""
    seen: dict[int, str] = {}
    double = set()
    for name, weight in made.model.state_dict().items():
        first = seen.setdefault(weight.data_ptr(), name) if weight.numel() else name
        if first != name and torch.equal(weight, made.model.state_dict()[first]):
            double.add(name)
    return double
