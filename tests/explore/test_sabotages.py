"""The random handlers are strong: whatever is broken on purpose, some handler among them notices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sabotages import SABOTAGES, Sabotage, first_to_notice

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("sabotage", [s for s in SABOTAGES if s.seed is not None], ids=lambda s: s.title)
def test_a_broken_tool_is_noticed(sabotage: Sabotage, tmp_path: Path) -> None:
    assert sabotage.seed is not None
    assert first_to_notice(sabotage, range(sabotage.seed, sabotage.seed + 1), tmp_path) is not None


def test_most_sabotages_are_noticed() -> None:
    assert sum(s.seed is not None for s in SABOTAGES) >= 15
