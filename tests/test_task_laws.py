"""Every task obeys every law it claims."""

import pytest

from attime.laws import Law, cases
from attime.part import Part


@pytest.mark.parametrize(("part", "law"), cases("tasks"))
def test_law(part: Part, law: Law) -> None:
    law.run(part)
