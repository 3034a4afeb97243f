"""Every shipped proof holds when it is rechecked, with either solver."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from verifier.prove.certificate import Certificate
from verifier.prove.prover import Prover
from verifier.recheck import recheck
from verifier.recheck.solver import Name
from verifier.spec import load

ROOT = Path(__file__).parents[2]
SPECS = sorted((ROOT / "specs").glob("*.yaml"))


@cache
def proved(spec: Path) -> tuple[bytes, frozenset[str]]:
    """The certificate of all that is proved of a specification, and the names of that."""
    model = load(spec)
    certificate = Certificate(model)
    results = list(Prover(model, witness=certificate.add).results(model.properties))
    return certificate.content(), frozenset(r.property.name for r in results if r.verdict == "proved")


@pytest.mark.parametrize("solver", ["z3", "bitwuzla"])
@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.stem)
def test_shipped_proofs_are_rechecked(spec: Path, solver: Name, tmp_path: Path) -> None:
    content, names = proved(spec)
    file = tmp_path / "certificate"
    file.write_bytes(content)
    proofs = list(recheck(file, spec, solver))
    checked = [name for proof in proofs for name in (*proof.judged, *proof.left)]
    assert len(checked) == len(set(checked))
    assert set(checked) == names
