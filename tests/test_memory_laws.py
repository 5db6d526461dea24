"""Every policy of the memory room obeys its laws."""

import pytest

from attime.laws import Law, cases
from attime.part import Part


@pytest.mark.parametrize(("part", "law"), cases("memory"))
def test_law(part: Part, law: Law) -> None:
    law.run(part)
