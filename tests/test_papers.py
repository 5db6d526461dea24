"""Every paper file obeys the laws of its room."""

import importlib
from importlib.resources import files
from types import ModuleType

import pytest

from attime.errors import MissingData
from attime.laws.papers import LAWS
from attime.papers import rekv, streaming_llm, video_streaming

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


@pytest.mark.parametrize(
    ("slug", "options", "missed"),
    [
        ("streaming_llm", {"times": 8}, "missed: a window alone breaks"),
        ("pyramid_memory_bank", {"streams": 6}, "missed: better than two banks"),
        ("cachegen", {}, "missed: 3.7 times smaller"),
        ("prflash_saq", {"rows": 16}, "flat bits do as well"),
    ],
)
def test_a_waived_claim_fails_in_what_it_says_and_in_nothing_else(
    slug: str, options: dict[str, int], missed: str
) -> None:
    assert importlib.import_module(f"attime.papers.{slug}").run(seed=1, **options).reason == missed


def test_sinks_must_be_better_than_no_sinks() -> None:
    verdict = streaming_llm.run(sinks=0, times=8)
    assert not verdict.holds
    assert "a window alone breaks" in verdict.reason


def test_chosen_clips_are_measured_beside_clips_without_a_question() -> None:
    numbers = video_streaming.run(streams=1, long=16).numbers
    assert numbers["latest, 16 clips"] == numbers["spread, 16 clips"] == 4 / 16
    assert numbers["chosen, 16 clips"] > 0.9


def test_blocks_of_one_token_hold_more_than_blocks_of_many() -> None:
    numbers = rekv.run(rows=2, asked=2).numbers
    assert numbers["held of 4096, blocks of 1"] > 0.5 > 4 * numbers["held of 4096, blocks of 16"]
