"""Every shipped proof holds when it is rechecked, with either solver.

Set VERIFIER_FULL=1 for all proofs with routines too.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from recheck_certificates import COUNTER, ROOT, SHIPPED, Lines, proved

from verifier.recheck import recheck

if TYPE_CHECKING:
    from pathlib import Path

    from verifier.recheck.solver import Name

SMALL = ("nested_nmi_2010", "nmi_on_stack_cr3", "nmi_on_stack_irq")
FULL = os.environ.get("VERIFIER_FULL") == "1"
WITH_ROUTINES = [*(spec for spec in SHIPPED if FULL or spec.stem in SMALL), COUNTER]


@pytest.mark.parametrize("solver", ["z3", "bitwuzla"])
@pytest.mark.parametrize("spec", [*SHIPPED, COUNTER], ids=lambda s: s.stem)
def test_all_that_is_proved_is_rechecked(spec: Path, solver: Name, tmp_path: Path) -> None:
    expect_rechecked(spec, solver, tmp_path)


@pytest.mark.parametrize("solver", ["z3", "bitwuzla"])
@pytest.mark.parametrize("spec", WITH_ROUTINES, ids=lambda s: s.stem)
def test_all_that_is_proved_with_routines_is_rechecked(spec: Path, solver: Name, tmp_path: Path) -> None:
    expect_rechecked(spec, solver, tmp_path, routines=True)


def test_routines_are_rechecked() -> None:
    """Proofs with routines say so, and stand for several contexts at once."""
    for spec in (COUNTER, ROOT / "specs" / "nmi_on_stack_irq.yaml"):
        proof = Lines.of(proved(spec, routines=True)[0]).proofs[0]
        begun = [hint[1] for state in proof.states for hint in state["steps"] if hint[3:] == ["call"]]
        assert proof.opening["routines"]
        assert len(begun) > len(set(begun)) > 1


def expect_rechecked(spec: Path, solver: Name, tmp_path: Path, routines: bool = False) -> None:
    content, names = proved(spec, routines)
    file = tmp_path / "certificate"
    file.write_bytes(content)
    proofs = list(recheck(file, spec, solver))
    checked = [name for proof in proofs for name in proof.judged]
    assert len(checked) == len(set(checked))
    assert set(checked) == names
    assert not any(proof.left for proof in proofs)
