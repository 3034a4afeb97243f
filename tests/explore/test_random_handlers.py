"""Random handlers: the search that merges states, the one that takes every path, and all concrete runs agree.

VERIFIER_FULL=1 for tens of thousands (hours); VERIFIER_SEED is the first seed, VERIFIER_HANDLERS their number.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from three_ways import compare

if TYPE_CHECKING:
    from pathlib import Path

FULL = os.environ.get("VERIFIER_FULL") == "1"
FIRST = int(os.environ.get("VERIFIER_SEED", "0"))
HANDLERS = int(os.environ.get("VERIFIER_HANDLERS", "20000" if FULL else "500"))
STATES = 2000 if FULL else 400
GROUP = 25


@pytest.mark.parametrize("first", range(FIRST, FIRST + HANDLERS, GROUP))
def test_three_ways_agree(first: int, tmp_path: Path) -> None:
    found = [compare(seed, tmp_path, STATES) for seed in range(first, first + GROUP)]
    assert not [f.differs for f in found if f.differs]
    assert sum(f.judged > 0 for f in found) >= GROUP // 4, "handlers are small enough to be judged"
    refuted = sum(f.refuted for f in found)
    assert sum(f.concrete for f in found) >= refuted // 8, "a few starts are enough for some of what is refuted"
