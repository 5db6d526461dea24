"""Every paper file obeys the laws of its room."""

import importlib
from importlib.resources import files
from types import ModuleType

import pytest

from attime.errors import MissingData
from attime.laws.papers import LAWS

SLUGS = sorted(
    path.name.removesuffix(".py")
    for path in files("attime.papers").iterdir()
    if path.name.endswith(".py") and path.name not in ("__init__.py", "card.py")
)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
@pytest.mark.parametrize("slug", SLUGS)
def test_law(slug: str, law, request: pytest.FixtureRequest) -> None:
    paper = importlib.import_module(f"attime.papers.{slug}")
    reason = getattr(paper, "WAIVED", {}).get(law.name)
    if reason:
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    try:
        law.check(paper)
    except MissingData as error:  # two papers prove themselves on public data, which is not shipped
        pytest.skip(str(error))


def test_at_least_twenty_are_built() -> None:
    assert len(SLUGS) >= 20


def test_the_laws_bite() -> None:
    empty = ModuleType("empty", "Claim: nothing.")
    for law in LAWS[1:]:
        with pytest.raises((AssertionError, AttributeError, OSError, TypeError)):
            law.check(empty)
