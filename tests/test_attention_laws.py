"""Every mixer obeys every law it claims."""

import pytest

from attime.laws import Law, cases
from attime.part import Part

CASES = cases("attention")


@pytest.mark.parametrize(("part", "law"), [case for case in CASES if case.values[1].name != "compiles"])
def test_law(part: Part, law: Law) -> None:
    law.run(part)


@pytest.mark.compiles  # torch.compile cannot trace run-time type checks: run with JAXTYPING_DISABLE=1, as `make test` does
@pytest.mark.parametrize(
    ("part", "law"), [case for case in CASES if case.values[1].name == "compiles" and "-0-" in case.id]
)
def test_compiles(part: Part, law: Law) -> None:
    law.run(part)
