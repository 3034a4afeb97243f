"""A small change to the repaired sketch breaks a property, or stands in a table with the reason why it cannot.

CI judges a sample of those that are to be killed; VERIFIER_FULL=1 all mutants.
"""

from __future__ import annotations

import os
from random import Random
from typing import TYPE_CHECKING

import pytest
from mutant_runs import UNJUDGED, killed_by_alone
from mutations import SOURCES, Mutant, mutants
from survivors import SURVIVORS, why_idempotent

if TYPE_CHECKING:
    from pathlib import Path

FULL = os.environ.get("VERIFIER_FULL") == "1"
ALL = list(mutants())


def reason(mutant: Mutant) -> str | None:
    """Why a mutant means the same as the original; None if it is to be killed."""
    return SURVIVORS.get(mutant.name) or why_idempotent(mutant)


#: A mutant that survives costs whole searches, one in another order many steps: the sample has others.
QUICK = [m for m in ALL if m.source == SOURCES[0] and m.line < 45 and m.line == m.last and reason(m) is None]
SAMPLE = ALL if FULL else Random(2010).sample(QUICK, 8)


@pytest.mark.parametrize("mutant", SAMPLE, ids=lambda m: m.name)
def test_mutants_are_killed_unless_they_mean_the_same(mutant: Mutant, tmp_path: Path) -> None:
    death, why = killed_by_alone(mutant, tmp_path), reason(mutant)
    if why is None:
        assert not (death or "").startswith(UNJUDGED), death
        assert death is not None, "all properties are proved of a changed program"
    else:
        assert death is None, f"said to mean the same ({why})"


def test_the_table_names_mutants_that_exist() -> None:
    assert set(SURVIVORS) <= {m.name for m in ALL}


def test_most_mutants_are_killed() -> None:
    assert sum(reason(m) is None for m in ALL) > 0.7 * len(ALL)
