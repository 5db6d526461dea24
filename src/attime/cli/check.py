"""`attime check my_module:MyMixer`: the laws of a room, run on a part of yours."""

import argparse
import inspect
import json

from rich.console import Console

from attime.cli.parts import find_part
from attime.errors import AttimeError
from attime.laws.cases import ROOMS, examples_of, laws_of
from attime.laws.contract import pairs
from attime.report import listing

__all__ = ["check"]


def check(options: argparse.Namespace) -> int:
    """Run every law the part claims on each of its examples; 0 if all hold, 1 if one is broken."""
    kind = find_part(options.name)
    laws = laws_of(_room(kind))
    if options.law:
        laws = tuple(law for law in laws if law.name == options.law)
        if not laws:
            known = ", ".join(law.name for law in laws_of(_room(kind)))
            raise AttimeError(f"there is no law {options.law!r} in this room; its laws are {known}.")
    rows = []
    for number, example in enumerate(examples_of(kind)):
        for part, law in pairs([example], laws):
            waived = kind.waived.get(law.name)
            try:
                law.run(part)
                found = "no longer fails: remove its waiver" if waived else ""
            except Exception as error:  # whatever a user's part raises is a finding, not our failure
                found = "" if waived else f"{type(error).__name__}: {error}".split("\n", 1)[0]
            rows.append(
                {"example": number, "law": law.name, "holds": not found, "found": found or waived or law.check.__doc__}
            )
    broken = [row for row in rows if not row["holds"]]
    if options.json:
        print(json.dumps({"part": options.name, "holds": not broken, "laws": rows}))
    else:
        shown = [
            (str(row["example"]), row["law"], "holds" if row["holds"] else "BROKEN", str(row["found"])) for row in rows
        ]
        Console().print(listing(("example", "law", "", "finding"), shown))
        print(f"{len(rows) - len(broken)} of {len(rows)} hold." if rows else "No law applies to it by itself.")
    return 0 if rows and not broken else 1


def _room(kind: type) -> str:
    """The room whose contract the part implements."""
    for base in kind.__mro__:
        parts = base.__module__.split(".")
        if parts[0] == "attime" and len(parts) > 2 and parts[1] in ROOMS and inspect.isabstract(base):
            return parts[1]
    raise AttimeError(f"{kind.__name__} implements no room's contract; subclass one such as attime.attention.Mixer.")
