"""Both engines find what is right of the programs that are about one thing each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from directed import CASES, Case, differs

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_both_engines_are_right(case: Case, tmp_path: Path) -> None:
    assert differs(case, tmp_path) == ""
