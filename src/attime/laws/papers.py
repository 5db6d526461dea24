"""Laws of the papers room: a paper file is thin, complete, and its claim is what its proof finds.

A paper that cannot obey a law yet names it, with the reason, in `WAIVED`.
"""

import ast
import inspect
import re
from types import ModuleType

from attime.laws.contract import Law

__all__ = ["LAWS"]


def the_file_is_thin(paper: ModuleType) -> None:
    """At most 125 lines, no classes, at most three functions, one of them `run`."""
    source = inspect.getsource(paper)
    tree = ast.parse(source)
    assert len(source.splitlines()) <= 125, "a paper file is at most 120 lines or so"
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)], "a paper file has no classes"
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert "run" in functions, "a paper file has a function run(...)"
    assert len(functions) <= 3, f"a paper file has at most three functions; got {', '.join(functions)}"


def the_file_is_complete(paper: ModuleType) -> None:
    """Claim, parts and proof are told, the card is filled in, and options and seed can be given from outside."""
    text = inspect.getdoc(paper) or ""
    for heading in ("Claim:", "Parts:", "Proof:"):
        assert re.search(rf"^{heading}", text, re.MULTILINE), f"the docstring has no {heading}"
    assert paper.PAPER.url.startswith("https://"), "the card names no page"
    assert paper.PAPER.parts, "the card names no parts"
    parameters = inspect.signature(paper.run).parameters
    bound = [p for p in parameters.values() if p.kind is not p.KEYWORD_ONLY or p.default is p.empty]
    assert not bound, f"run() needs keyword-only options with defaults; {bound} is not one"
    assert "seed" in parameters, "a proof can be run with another seed"
    unknown = set(getattr(paper, "FULL", {})) - set(parameters)
    assert not unknown, f"FULL names options that run() does not have: {unknown}"


def the_claim_holds(paper: ModuleType) -> None:
    """The proof at its defaults; one that compares times gets three tries, since other processes can disturb them."""
    tries = 3 if "_time(" in inspect.getsource(paper) else 1
    verdict = paper.run()
    while not verdict.holds and (tries := tries - 1):
        verdict = paper.run()
    assert verdict.numbers, "a verdict shows the numbers it rests on"
    assert all(isinstance(float(value), float) for value in verdict.numbers.values())
    assert verdict.holds, f"{verdict.reason} {dict(verdict.numbers)}"


LAWS = (Law(the_file_is_thin), Law(the_file_is_complete), Law(the_claim_holds))
