"""`attime papers` and `attime run`: claims that run."""

import argparse
import concurrent.futures
import hashlib
import importlib
import inspect
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import pooch
import torch
from rich.console import Console

from attime import __version__
from attime.errors import AttimeError
from attime.papers.card import Paper, Verdict
from attime.report import listing

__all__ = ["paper", "papers", "run"]


def papers(options: argparse.Namespace) -> int:
    """List the ledger with the status of every paper; those not yet run with this code are run now."""
    ledger = list(_ledger())
    built = {slug for _, slug, _ in ledger if _built(slug)}
    words = [word.lower() for word in options.words]
    chosen = [row for row in ledger if all(word in f"{row[0]} {row[1]} {row[2]}".lower() for word in words)] or ledger
    verdicts = _known()
    missing = [slug for _, slug, _ in chosen if slug in built and slug not in verdicts]
    if missing and not options.known:
        verdicts |= _run_all(missing, Console(stderr=True))
    rows = []
    for number, slug, title in ledger:
        status = verdicts.get(slug, {}).get("status", "not run") if slug in built else "not yet"
        parts = (
            ", ".join(getattr(part, "__name__", str(part)) for part in paper(slug).PAPER.parts) if slug in built else ""
        )
        row = {"number": number, "slug": slug, "status": status, "title": title, "parts": parts}
        if all(word in " ".join(map(str, row.values())).lower() for word in words):
            rows.append(row)
    if options.json:
        print(json.dumps({"papers": rows, "counts": _counts(rows)}))
        return 0
    shown = [tuple(map(str, row.values())) for row in rows]
    Console(width=None if sys.stdout.isatty() else 160).print(
        listing(("number", "slug", "status", "title", "parts"), shown, whole=("number", "slug", "status"))
    )
    print(", ".join(f"{count} {status}" for status, count in _counts(rows).items()))
    return 0


def run(options: argparse.Namespace) -> int:
    """Run one paper's proof with its own options; 0 if the claim holds, 1 if not."""
    module = paper(options.slug)
    rest = list(options.options)
    for flag in ("full", "json", "help_options"):  # options after the paper's own are the command's all the same
        word = f"--{flag.replace('_', '-')}"
        if word in rest:
            rest.remove(word)
            setattr(options, flag, True)
    arguments = _options(module)
    if options.help_options:
        arguments.print_help()
        return 0
    chosen = {**(getattr(module, "FULL", {}) if options.full else {}), **vars(arguments.parse_args(rest))}
    start = time.perf_counter()
    verdict: Verdict = module.run(**chosen)
    took = time.perf_counter() - start
    status = "holds" if verdict.holds else "fails"
    if not chosen:
        _remember(options.slug, status, verdict)
    if options.json:
        numbers = {name: float(value) for name, value in verdict.numbers.items()}
        print(
            json.dumps(
                {"slug": options.slug, "status": status, "numbers": numbers, "reason": verdict.reason, "seconds": took}
            )
        )
        return 0 if verdict.holds else 1
    card: Paper = module.PAPER
    console = Console(highlight=False)
    console.print(f"[bold]{card.title}[/]  {card.url}")
    console.print(inspect.getdoc(module) or "", markup=False)
    console.print(listing(("number", "value"), [(name, f"{value:.6g}") for name, value in verdict.numbers.items()]))
    console.print(f"[bold]{status}[/] in {took:.1f} s{': ' + verdict.reason if verdict.reason else ''}")
    return 0 if verdict.holds else 1


def paper(slug: str) -> ModuleType:
    """The module of a paper; a sentence if there is none."""
    if _built(slug):
        return importlib.import_module(f"attime.papers.{slug}")
    known = {row[1]: row for row in _ledger()}
    if slug in known:
        raise AttimeError(
            f"paper {known[slug][0]} ({slug}) is in the ledger but not built yet; attime papers holds lists those that run."
        )
    near = [each for each in known if slug.lower() in each or each in slug.lower()]
    hint = f"; did you mean {', '.join(near[:3])}?" if near else "; attime papers lists all."
    raise AttimeError(f"there is no paper {slug!r}{hint}")


@cache
def _ledger() -> tuple[tuple[int, str, str], ...]:
    lines = files("attime.papers").joinpath("titles.txt").read_text(encoding="utf-8").splitlines()
    rows = (line.split("\t") for line in lines if line.strip())
    return tuple((int(number), slug, title) for number, slug, title in rows)


def _built(slug: str) -> bool:
    return slug != "card" and files("attime.papers").joinpath(f"{slug}.py").is_file()


def _options(module: ModuleType) -> argparse.ArgumentParser:
    """The command's options are the keyword arguments of the paper's `run`."""
    options = argparse.ArgumentParser(
        prog=f"attime run {module.__name__.rsplit('.', 1)[1]}", argument_default=argparse.SUPPRESS
    )
    for name, parameter in inspect.signature(module.run).parameters.items():
        default = parameter.default
        kind: dict[str, Any] = {"type": type(default)}
        if isinstance(default, bool):
            kind = {"action": argparse.BooleanOptionalAction}
        elif isinstance(default, tuple | list):
            kind = {"type": type(default[0]), "nargs": "+"}
        options.add_argument(f"--{name.replace('_', '-')}", help=f"default {default}", **kind)
    return options


def _counts(rows: list[dict[str, Any]]) -> dict[str, int]:
    statuses = [row["status"] for row in rows]
    return {status: statuses.count(status) for status in ("holds", "fails", "not run", "not yet") if status in statuses}


@cache
def _memory() -> Path:
    """Where verdicts are remembered: one file per state of the code, so that no verdict outlives what it judged."""
    digest = hashlib.sha256(f"{__version__} {torch.__version__}".encode())
    root = Path(str(files("attime")))
    for source in sorted(root.rglob("*.py")):
        digest.update(source.read_bytes())
    return (
        Path(os.environ.get("ATTIME_CACHE", pooch.os_cache("attime"))) / "verdicts" / f"{digest.hexdigest()[:16]}.json"
    )


def _known() -> dict[str, dict[str, Any]]:
    try:
        return json.loads(_memory().read_text())
    except (OSError, json.JSONDecodeError):
        return {}


def _remember(slug: str, status: str, verdict: Verdict) -> dict[str, Any]:
    entry = {"status": status, "reason": verdict.reason, "numbers": {n: float(v) for n, v in verdict.numbers.items()}}
    known = {**_known(), slug: entry}
    try:
        _memory().parent.mkdir(parents=True, exist_ok=True)
        _memory().with_suffix(".part").write_text(json.dumps(known))
        os.replace(_memory().with_suffix(".part"), _memory())
    except OSError:
        pass  # a read-only home only means that the paper runs again next time
    return entry


def _run_all(slugs: list[str], console: Console) -> dict[str, dict[str, Any]]:
    found = {}
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        futures = {pool.submit(_verdict, slug): slug for slug in slugs}
        for count, future in enumerate(concurrent.futures.as_completed(futures), start=1):
            slug = futures[future]
            try:
                verdict = future.result()
            except AttimeError as error:
                verdict = Verdict(holds=False, reason=str(error))
            found[slug] = _remember(slug, "holds" if verdict.holds else "fails", verdict)
            console.print(f"{count}/{len(slugs)} {slug}: {found[slug]['status']}", highlight=False)
    return found


def _verdict(slug: str) -> Verdict:
    torch.set_num_threads(1)
    proof: Callable[[], Verdict] = paper(slug).run
    return proof()
