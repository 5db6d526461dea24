"""Which parts a room has, and each of them paired with every law it claims to obey."""

import importlib
import pkgutil
from types import ModuleType
from typing import Any

from attime.errors import AttimeError, MissingExtra
from attime.laws.contract import Law, pairs
from attime.part import Part

__all__ = ["ROOMS", "cases", "examples_of", "laws_of", "parts_of"]

ROOMS = ("streams", "tokens", "attention", "memory", "models", "tasks", "control")


def parts_of(room: str) -> list[type[Part]]:
    """The parts listed in `__all__` of a room and of its families, by import path."""
    if room not in ROOMS:
        raise AttimeError(f"there is no room {room!r}; rooms are {', '.join(ROOMS)}.")
    package = importlib.import_module(f"attime.{room}")
    families = [
        importlib.import_module(found.name)
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
        if found.ispkg
    ]
    return [part for module in (package, *families) for part in _listed(module)]


def laws_of(room: str) -> tuple[Law, ...]:
    """The laws of a room; MissingExtra without hypothesis."""
    try:
        return importlib.import_module(f"attime.laws.{room}").LAWS
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("attime."):
            return ()
        raise MissingExtra(error.name or "hypothesis", "laws", "checking laws") from error


def cases(room: str) -> list[Any]:
    """Arguments for `pytest.mark.parametrize(("part", "law"), ...)`; a waived law must fail."""
    import pytest

    found = []
    for kind in parts_of(room):
        for number, example in enumerate(examples_of(kind)):
            for part, law in pairs([example], laws_of(room)):
                reason = kind.waived.get(law.name)
                marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
                found.append(pytest.param(part, law, id=f"{kind.__name__}-{number}-{law.name}", marks=marks))
    return found


def examples_of(kind: type[Part]) -> list[Part]:
    """The part's examples, with the same weights every time."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return list(kind.examples())


def _listed(module: ModuleType) -> list[type[Part]]:
    named = [getattr(module, name) for name in getattr(module, "__all__", ())]
    return [each for each in named if isinstance(each, type) and issubclass(each, Part) and not _abstract(each)]


def _abstract(kind: type) -> bool:
    return bool(getattr(kind, "__abstractmethods__", None))
