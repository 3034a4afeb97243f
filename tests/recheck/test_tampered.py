"""A certificate that was tampered with is refused.

Set VERIFIER_FULL=1 for more places, and for tampering with proofs of a shipped specification too.
"""

from __future__ import annotations

import os
from random import Random
from typing import TYPE_CHECKING

import pytest
from recheck_certificates import COUNTER, ROOT, Lines, proved
from recheck_tampers import OF_ROUTINES, TAMPERS

from verifier.recheck import Refused, recheck
from verifier.recheck.errors import Malformed
from verifier.spec import load

if TYPE_CHECKING:
    from pathlib import Path

    from recheck_tampers import Tamper

FULL = os.environ.get("VERIFIER_FULL") == "1"
PLACES = 40 if FULL else 4
SPECS = [COUNTER]
if FULL:
    SPECS.append(ROOT / "specs" / "nested_nmi_repair_2_flag.yaml")
#: What finds no place in some proofs.
RARE = ("claim_more", "lower_rank", "return_elsewhere")


@pytest.mark.parametrize("tamper", TAMPERS, ids=lambda t: t.__name__)
@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.stem)
def test_a_certificate_that_was_tampered_with_is_refused(spec: Path, tamper: Tamper, tmp_path: Path) -> None:
    expect_refused(spec, tamper, tmp_path, PLACES)


@pytest.mark.parametrize("tamper", [*OF_ROUTINES, *TAMPERS], ids=lambda t: t.__name__)
@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.stem)
def test_a_proof_with_routines_that_was_tampered_with_is_refused(spec: Path, tamper: Tamper, tmp_path: Path) -> None:
    expect_refused(spec, tamper, tmp_path, PLACES // 2 if tamper in OF_ROUTINES else PLACES // 4, routines=True)


def expect_refused(spec: Path, tamper: Tamper, tmp_path: Path, places: int, routines: bool = False) -> None:
    content, _ = proved(spec, routines)
    file, model = tmp_path / "certificate", load(spec)
    tried = 0
    for seed in range(places):
        for proof in range(len(Lines.of(content).proofs)):
            lines = Lines.of(content)
            lines.proofs = [lines.proofs[proof]]
            if routines and not lines.proofs[0].opening.get("routines"):
                continue
            if not tamper(lines, lines.proofs[0], Random(seed), model):
                continue
            tried += 1
            file.write_bytes(lines.content())
            with pytest.raises((Refused, Malformed)) as refusal:
                list(recheck(file, spec))
            assert len(str(refusal.value).splitlines()) == 1
    assert tried or ((spec != COUNTER or routines) and tamper.__name__ in RARE)


@pytest.mark.parametrize("routines", [False, True])
def test_what_was_not_tampered_with_is_confirmed(routines: bool, tmp_path: Path) -> None:
    """Reading it as data and writing it again changes nothing."""
    content, names = proved(COUNTER, routines)
    file = tmp_path / "certificate"
    file.write_bytes(Lines.of(content).content())
    assert {name for proof in recheck(file, COUNTER) for name in proof.judged} == names
