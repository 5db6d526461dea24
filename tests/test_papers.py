"""Every paper file is thin, complete, and its claim is what its proof finds."""

import ast
import importlib
import inspect
import json
import re
from importlib.resources import files

import pytest

from attime.cli.papers import _options
from attime.papers.card import Paper, Verdict

SLUGS = sorted(
    path.name.removesuffix(".py")
    for path in files("attime.papers").iterdir()
    if path.name.endswith(".py") and path.name not in ("__init__.py", "card.py")
)


@pytest.mark.parametrize("slug", SLUGS)
def test_the_file_is_thin(slug: str) -> None:
    source = files("attime.papers").joinpath(f"{slug}.py").read_text()
    tree = ast.parse(source)
    assert len(source.splitlines()) <= 125, "a paper file is at most 120 lines or so"
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)], "a paper file has no classes"
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert "run" in functions
    assert len(functions) <= 3, functions


@pytest.mark.parametrize("slug", SLUGS)
def test_the_file_is_complete(slug: str) -> None:
    module = importlib.import_module(f"attime.papers.{slug}")
    text = inspect.getdoc(module) or ""
    for heading in ("Claim:", "Parts:", "Proof:"):
        assert re.search(rf"^{heading}", text, re.M), f"{slug} has no {heading}"
    card: Paper = module.PAPER
    assert card.url.startswith("https://")
    assert card.parts
    parameters = inspect.signature(module.run).parameters.values()
    assert all(each.kind is each.KEYWORD_ONLY and each.default is not each.empty for each in parameters)
    assert any(each.name == "seed" for each in parameters), "a proof can be run with another seed"
    if hasattr(module, "FULL"):
        assert set(module.FULL) <= {each.name for each in parameters}
    assert _options(module)


@pytest.mark.parametrize("slug", SLUGS)
def test_the_claim_holds(slug: str) -> None:
    module = importlib.import_module(f"attime.papers.{slug}")
    tries = 3 if "_time(" in inspect.getsource(module) else 1  # a ratio of times can be disturbed by other processes
    verdict: Verdict = module.run()
    while not verdict.holds and (tries := tries - 1):
        verdict = module.run()
    assert verdict.numbers, "a verdict shows the numbers it rests on"
    json.dumps({name: float(value) for name, value in verdict.numbers.items()})
    assert verdict.holds, f"{slug}: {verdict.reason} {dict(verdict.numbers)}"


def test_at_least_twenty_hold() -> None:
    assert len(SLUGS) >= 20
