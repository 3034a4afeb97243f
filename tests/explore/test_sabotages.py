"""Whatever is broken on purpose is noticed: by a random handler, or by a program that is about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sabotages import SABOTAGES, Sabotage, how_noticed

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda s: s.title)
def test_a_broken_tool_is_noticed(sabotage: Sabotage, tmp_path: Path) -> None:
    assert how_noticed(sabotage, sabotage.noticed, tmp_path)
