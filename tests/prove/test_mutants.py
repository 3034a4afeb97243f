"""A small change to a program that is proved breaks a property, or stands in a table with the reason why it cannot.

CI judges a sample of those that are to be killed; VERIFIER_FULL=1 all mutants.
"""

from __future__ import annotations

import os
from random import Random
from typing import TYPE_CHECKING

import pytest
from mutant_runs import UNJUDGED, killed_by_alone
from mutations import SUBJECTS, Mutant, Subject, mutants
from survivors import SURVIVORS, UNDECIDED, why_idempotent

if TYPE_CHECKING:
    from pathlib import Path

FULL = os.environ.get("VERIFIER_FULL") == "1"
ALL = list(mutants())


def reason(mutant: Mutant) -> str | None:
    """Why a mutant means the same as the original; None if it is to be killed."""
    return SURVIVORS.get(mutant.name) or why_idempotent(mutant)


def is_unjudged(death: str | None) -> bool:
    return (death or "").startswith(UNJUDGED)


def quick(subject: Subject, many: int) -> list[Mutant]:
    """Some that are to be killed, and soon: where the stack grows first, that takes many steps."""
    of = [m for m in ALL if m.subject is subject and not m.after and (subject is not SUBJECTS[0] or m.line < 45)]
    return Random(2010).sample([m for m in of if reason(m) is None], many)


SAMPLE = ALL if FULL else [m for s in SUBJECTS for m in quick(s, 4 if s is SUBJECTS[0] else 1)]
#: What survives with routines is judged without for some.
CONFIRMED = Random(2010).sample([m for m in ALL if m.subject.routines and reason(m) is not None], 8)


@pytest.mark.parametrize("mutant", SAMPLE, ids=lambda m: m.name)
def test_mutants_are_killed_unless_they_mean_the_same(mutant: Mutant, tmp_path: Path) -> None:
    routines = mutant.subject.routines and mutant not in CONFIRMED
    death, why = killed_by_alone(mutant, tmp_path, routines), reason(mutant)
    if mutant.name in UNDECIDED:
        assert is_unjudged(death), f"said to be open, and is not: {death}"
    elif why is None:
        assert not is_unjudged(death), death
        assert death is not None, "all properties are proved of a changed program"
    else:
        assert death is None, f"said to mean the same ({why})"


def test_the_table_names_mutants_that_exist() -> None:
    assert {*SURVIVORS, *UNDECIDED} <= {m.name for m in ALL}
    assert not {*SURVIVORS} & {*UNDECIDED}
    assert len({m.name for m in ALL}) == len(ALL)


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda s: s.specs[0])
def test_most_mutants_are_killed(subject: Subject) -> None:
    of = [m for m in ALL if m.subject is subject]
    assert sum(reason(m) is None for m in of) > 0.7 * len(of)
