"""`attime data`: named public data sets, which are on this machine, and fetching one."""

import argparse
import json

from rich.console import Console

from attime.report import listing
from attime.streams.public import local_files, public, public_files
from attime.streams.sources import SOURCES

__all__ = ["data"]


def data(options: argparse.Namespace) -> int:
    """List the sets, or fetch one and say what it holds."""
    if options.name:
        files = public_files(options.name)
        about, paths = public(options.name).about, {name: str(path) for name, path in files.items()}
        print(json.dumps({"name": options.name, "about": about, "files": paths}) if options.json else about)
        if not options.json:
            print("\n".join(paths.values()))
        return 0
    rows = [
        {
            "name": name,
            "here": all(path is not None for path in local_files(name).values()),
            "fetchable": all(file.origin for file in source.files),
            "licence": source.licence,
            "note": source.note,
        }
        for name, source in SOURCES.items()
    ]
    if options.json:
        print(json.dumps({"data": rows}))
        return 0
    states = {(True, True): "here", (True, False): "here", (False, True): "attime data NAME", (False, False): "by hand"}
    shown = [(row["name"], states[row["here"], row["fetchable"]], row["licence"], row["note"]) for row in rows]
    Console().print(listing(("name", "where", "licence", "what"), shown))
    return 0
