"""Every mixer obeys every law it claims."""

import os

import pytest

from attime.laws import Law, cases
from attime.part import Part


@pytest.mark.parametrize(("part", "law"), cases("attention"))
def test_law(part: Part, law: Law) -> None:
    if law.name == "compiles" and not os.environ.get("JAXTYPING_DISABLE"):
        pytest.skip(
            "torch.compile cannot trace run-time type checks; `make test` runs this with JAXTYPING_DISABLE=1"
        )
    law.run(part)
