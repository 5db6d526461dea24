"""`attime parts`, `show`, `draw`, `cite`: what there is, what it says, what it sees, where it comes from."""

import argparse
import importlib
import inspect
import json
import re
import sys
from dataclasses import fields
from typing import Any

import torch
from rich.console import Console

from attime.cli.papers import _built, _ledger, paper
from attime.errors import AttimeError
from attime.laws.cases import ROOMS, laws_of, parts_of
from attime.models.recipe import Recipe, find_mixer
from attime.part import Part
from attime.report import listing

__all__ = ["cite", "draw", "find_part", "parts", "show"]

ARXIV = re.compile(r"\b(\d{4}\.\d{4,5})\b")
SHADES = " .:-=+*#%@"


def parts(options: argparse.Namespace) -> int:
    """List the parts of one room or of all."""
    rows = [
        {"room": room, "part": _path(kind), "traits": ", ".join(_traits(kind)), "what": _first_line(kind)}
        for room in ([options.room] if options.room else ROOMS)
        for kind in parts_of(room)
    ]
    if options.json:
        print(json.dumps({"parts": rows}))
    else:
        Console(width=None if sys.stdout.isatty() else 160).print(
            listing(("part", "traits", "what"), [tuple(row.values())[1:] for row in rows], whole=("part",))
        )
    return 0


def show(options: argparse.Namespace) -> int:
    """Print a part's or a paper's documentation, options, traits, waivers and laws."""
    console = Console(highlight=False)
    if _built(options.name):
        module = paper(options.name)
        console.print(f"[bold]{module.PAPER.title}[/]  {module.PAPER.url}")
        console.print(inspect.getdoc(module) or "", markup=False)
        console.print(f"parts    {', '.join(_path(part) for part in module.PAPER.parts)}")
        console.print(f"run      attime run {options.name}")
        return 0
    kind = find_part(options.name)
    room = kind.__module__.split(".")[1]
    console.print(f"[bold]{_path(kind)}[/]")
    console.print(inspect.getdoc(sys.modules[kind.__module__]) or "", markup=False)
    console.print()
    console.print(inspect.getdoc(kind) or "", markup=False)
    console.print(f"\noptions  {kind.__name__}{inspect.signature(kind)}", markup=False)
    console.print(f"traits   {', '.join(_traits(kind)) or 'none'}")
    example = kind.examples()[0]
    console.print(f"laws     {', '.join(law.name for law in laws_of(room) if law.applies(example)) or 'none'}")
    for law, reason in kind.waived.items():
        console.print(f"waived   {law}: {reason}")
    return 0


def draw(options: argparse.Namespace) -> int:
    """Print how strongly each past token moves each output, found by autograd; darkest is strongest in its row."""
    if not 2 <= options.length <= 200:
        raise AttimeError(f"draw needs a --length from 2 to 200; got {options.length}.")
    model = Recipe(mixer=options.name, dim=32, heads=2, layers=1, vocabulary=2).build()
    mixer = model.get_submodule("stack.blocks.0.mixer").double().eval()
    x = torch.randn(1, options.length, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x.requires_grad_()
    y, _ = mixer(x)
    print(f"{options.name}: rows are outputs, columns are inputs, oldest first")
    for output in range(options.length):
        (moved,) = torch.autograd.grad(y[0, output].sum(), x, retain_graph=True)
        strength = moved[0].norm(dim=-1)
        level = (strength / strength.max()).pow(0.4) if float(strength.max()) > 0 else strength
        print("".join(SHADES[min(9, int(9 * float(each) + 0.999))] * 2 for each in level))
    return 0


def cite(options: argparse.Namespace) -> int:
    """Print BibTeX for every paper behind a part, or for one paper."""
    if _built(options.name):
        slugs = [options.name]
        ids: set[str] = set()
    else:
        kind = find_part(options.name)
        slugs = [slug for _, slug, _ in _ledger() if _built(slug) and kind in paper(slug).PAPER.parts]
        source = re.search(
            r"^Source:(.*?)(?:^\w+:|\Z)", inspect.getdoc(sys.modules[kind.__module__]) or "", re.M | re.S
        )
        ids = set(ARXIV.findall(source[1])) if source else set()
    entries = {
        ARXIV.findall(paper(slug).PAPER.url)[0]: _bibtex(slug) for slug in slugs if ARXIV.search(paper(slug).PAPER.url)
    }
    for number in sorted(ids - set(entries)):
        entries[number] = _entry(f"arxiv_{number.replace('.', '_')}", number, "")
    if not entries:
        raise AttimeError(
            f"{options.name} names no paper to cite; attime show {options.name} says where it comes from."
        )
    print("\n\n".join(entries.values()))
    return 0


def find_part(name: str) -> type[Part]:
    """A part by class name, import path or my_module:MyPart."""
    if ":" in name:
        module, _, attribute = name.partition(":")
        sys.path.insert(0, "")
        try:
            kind = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise AttimeError(f"cannot find {attribute} in {module}: {error}.") from None
        if not (isinstance(kind, type) and issubclass(kind, Part)):
            raise AttimeError(f"{name} is not a part; subclass a contract such as attime.attention.Mixer.")
        return kind
    found = [kind for room in ROOMS for kind in parts_of(room) if name in (kind.__name__, _path(kind))]
    if not found:
        try:
            return find_mixer(name)
        except AttimeError:
            raise AttimeError(f"there is no part or paper {name!r}; attime parts and attime papers list all.") from None
    return found[0]


def _path(kind: Any) -> str:
    module = kind.__module__.removeprefix("attime.")
    family = module.rsplit(".", 1)[0] if module.count(".") else module
    return (
        f"{family}.{kind.__name__}" if kind.__module__.startswith("attime.") else f"{kind.__module__}:{kind.__name__}"
    )


def _traits(kind: type[Part]) -> list[str]:
    traits = getattr(kind, "traits", None)
    return [each.name for each in fields(traits) if getattr(traits, each.name)] if traits is not None else []


def _first_line(kind: type[Part]) -> str:
    return (inspect.getdoc(sys.modules[kind.__module__]) or "").split("\n", 1)[0]


def _bibtex(slug: str) -> str:
    card = paper(slug).PAPER
    return card.bibtex or _entry(slug, ARXIV.findall(card.url)[0], card.title)


def _entry(key: str, number: str, title: str) -> str:
    named = f"  title = {{{title}}},\n" if title else ""
    return (
        f"@misc{{{key},\n{named}  year = {{20{number[:2]}}},\n  eprint = {{{number}}},\n"
        f"  archivePrefix = {{arXiv}},\n  url = {{https://arxiv.org/abs/{number}}}\n}}"
    )
