"""`attime sites` and `attime lens`: where a model attends, and one page to look at it."""

import argparse
import json
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.tree import Tree

from attime.errors import AttimeError
from attime.site import Site

if TYPE_CHECKING:
    from attime.report.lens import Look

__all__ = ["lens", "sites"]

ZOO = "zoo:"


def sites(options: argparse.Namespace) -> int:
    """Print a model's sites as a tree, or those that --where selects."""
    from attime.hub import sites
    from attime.site import select

    found = select(sites(_model(options.model)), options.where)
    if options.json:
        print(json.dumps({"sites": [asdict(site) for site in found]}))
        return 0
    tree = Tree(f"{options.model}: {len(found)} sites")
    branches: dict[tuple[str, str], Tree] = {}
    for site in found:
        key = site.part, site.kind
        if key not in branches:
            branches[key] = tree.add(f"[bold]{site.part} {site.kind}[/bold]")
        branches[key].add(_line(site))
    Console().print(tree)
    return 0


def lens(options: argparse.Namespace) -> int:
    """Run the model once and write the page."""
    from attime.report.lens import write_look
    from attime.report.lens.given import Wish
    from attime.report.lens.looking import look_at_model, look_at_zoo

    wish = Wish(
        given=options.input,
        ask=options.ask,
        where=options.where,
        step=options.step,
        tokens=options.tokens,
        seconds=options.seconds,
    )
    zoo = options.model.startswith(ZOO)
    look = (look_at_zoo if zoo else look_at_model)(options.model.removeprefix(ZOO), wish)
    path = write_look(look, options.out)
    if options.json:
        print(json.dumps({"page": str(path), **_said(look)}, ensure_ascii=False))
        return 0
    found = Counter(role for head in look.heads for role in head.roles)
    among = ", ".join(f"{count} {role}" for role, count in sorted(found.items()))
    print(f"{path}: {len(look.heads)} heads" + (f", among them {among}" if among else ""))
    if look.answer:
        print(f"answer: {look.answer}")
    for note in look.notes:
        print(note)
    return 0


def _said(look: "Look") -> dict[str, Any]:
    """What the page holds, without maps and pictures."""
    heads = [
        {
            "site": head.site,
            "part": head.part,
            "kind": head.kind,
            "layer": head.layer,
            "head": head.head,
            "queries": len(head.weights),
            "keys": head.weights.shape[1],
            "roles": dict(head.roles),
            "measures": dict(head.measures),
        }
        for head in look.heads
    ]
    return {"title": look.title, "answer": look.answer, "notes": list(look.notes), "heads": heads}


def _line(site: Site) -> str:
    return f"{site.layer}  {site.name}  [dim]{site.heads} heads[/dim]"


def _model(name: str) -> Any:
    """A model of the zoo, a class of transformers or diffusers from a folder or hub id."""
    if name.startswith(ZOO):
        from attime.zoo import load

        return load(name.removeprefix(ZOO)).model
    from attime.hub.opened import MISSING, open_model, reason

    try:
        return open_model(name)
    except MISSING as error:
        raise AttimeError(
            f"sites needs zoo:NAME, or a folder or id of a model of transformers or diffusers; {name}: {reason(error)}"
        ) from None
