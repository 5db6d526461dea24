"""The ledger of papers: complete, and in agreement with every paper file."""

import ast
import keyword
from importlib.resources import files
from pathlib import Path

import pytest

PAPERS = Path(str(files("attime.papers")))
LEDGER = [line.split("\t") for line in (PAPERS / "titles.txt").read_text(encoding="utf-8").splitlines()]
MODULES = sorted(path for path in PAPERS.glob("*.py") if path.stem not in {"__init__", "card"})


def test_all_274_papers_are_listed_once_in_order():
    assert all(len(row) == 3 and all(cell == cell.strip() != "" for cell in row) for row in LEDGER)
    assert [int(number) for number, _, _ in LEDGER] == list(range(1, 275))


def test_slugs_are_unique_module_names():
    slugs = [slug for _, slug, _ in LEDGER]
    assert len(set(slugs)) == len(slugs)
    assert [slug for slug in slugs if not slug.isidentifier() or keyword.iskeyword(slug) or slug != slug.lower()] == []


def test_titles_are_unique():
    assert len({title for _, _, title in LEDGER}) == len(LEDGER)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_paper_file_agrees_with_the_ledger(path):
    """Reads the card from the source: a typo in a paper is then this test's failure, not an import error here."""
    listed = {slug: (int(number), title) for number, slug, title in LEDGER}
    assert path.stem in listed, f"{path.name} is not a slug of titles.txt"
    cards = [
        {word.arg: word.value for word in node.value.keywords}
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and ast.unparse(node.targets[0]) == "PAPER"
    ]
    assert len(cards) == 1, f"{path.name} must have one card: PAPER = Paper(...)"
    assert (ast.literal_eval(cards[0]["number"]), ast.literal_eval(cards[0]["title"])) == listed[path.stem]
