"""The house keeps its own rules: where things stand, how they are named, what they say of themselves."""

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import attime
from attime.laws.cases import ROOMS, laws_of, parts_of
from attime.part import Part

ROOT = Path(attime.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
PARTS = [part for room in ROOMS for part in parts_of(room)]
FORBIDDEN = {"utils", "common", "misc", "helpers", "base"}


def test_no_room_is_called_nothing() -> None:
    names = {part for path in SOURCES for part in path.relative_to(ROOT).with_suffix("").parts}
    assert not names & FORBIDDEN


def test_leaves_lie_at_most_three_deep() -> None:
    assert all(len(path.relative_to(ROOT).parts) <= 3 for path in SOURCES)


def test_files_stay_small() -> None:
    long = {str(path.relative_to(ROOT)): n for path in SOURCES if (n := len(path.read_text().splitlines())) > 300}
    assert not long, long


def test_every_module_says_what_it_is_and_lists_what_it_offers() -> None:
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), f"{path.relative_to(ROOT)} has no docstring"


@pytest.mark.parametrize("name", [m.name for m in pkgutil.walk_packages(attime.__path__, "attime.")])
def test_everything_listed_exists(name: str) -> None:
    if name == "attime.__main__":
        return
    module = importlib.import_module(name)
    for listed in getattr(module, "__all__", ()):
        assert hasattr(module, listed), f"{name}.__all__ names {listed}, which is not there"
    if getattr(module, "__all__", None) and "." in name and not hasattr(module, "__path__"):
        assert list(module.__all__) == sorted(module.__all__, key=_order), f"{name}.__all__ is not sorted"


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_parts_are_final_and_show_themselves(part: type[Part]) -> None:
    assert getattr(part, "__final__", False), f"{part.__name__} needs @typing.final"
    assert inspect.getdoc(part), f"{part.__name__} has no docstring"
    examples = part.examples()
    assert examples, f"{part.__name__}.examples() is empty"
    assert all(type(example) is part for example in examples)
    known = {law.name for law in laws_of(part.__module__.split(".")[1])}
    assert set(part.waived) <= known, f"{part.__name__} waives laws that do not exist"
    assert all(len(reason) > 15 for reason in part.waived.values()), "a waiver needs a reason"


@pytest.mark.parametrize("part", parts_of("attention"), ids=lambda part: part.__name__)
def test_mixers_name_their_source(part: type[Part]) -> None:
    text = inspect.getdoc(sys.modules[part.__module__]) or ""
    assert "Source:" in text, f"{part.__module__} does not say where its equation comes from"
    assert "arXiv" in text or "https://" in text, f"{part.__module__} names no paper"


def test_class_names_are_unique() -> None:
    names = [part.__name__ for part in PARTS]
    assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)


def test_importing_attime_is_light() -> None:
    code = "import sys, attime; print([m for m in ('torch', 'polars', 'plotly', 'rich', 'hypothesis') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_annotations_resolve() -> None:
    for path in SOURCES:
        name = ".".join(["attime", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")
        if name != "attime.__main__":
            for _, kind in inspect.getmembers(importlib.import_module(name), inspect.isclass):
                if kind.__module__ == name and issubclass(kind, Part):
                    typing.get_type_hints(kind)


def _order(name: str) -> tuple[int, str]:
    """CONSTANTS, then Classes, then functions, as the linter sorts."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2, name)
