"""Every shipped proof holds when it is rechecked, with either solver."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from recheck_certificates import COUNTER, SHIPPED, proved

from verifier.recheck import recheck

if TYPE_CHECKING:
    from pathlib import Path

    from verifier.recheck.solver import Name


@pytest.mark.parametrize("solver", ["z3", "bitwuzla"])
@pytest.mark.parametrize("spec", [*SHIPPED, COUNTER], ids=lambda s: s.stem)
def test_all_that_is_proved_is_rechecked(spec: Path, solver: Name, tmp_path: Path) -> None:
    content, names = proved(spec)
    file = tmp_path / "certificate"
    file.write_bytes(content)
    proofs = list(recheck(file, spec, solver))
    checked = [name for proof in proofs for name in proof.judged]
    assert len(checked) == len(set(checked))
    assert set(checked) == names
    assert not any(proof.left for proof in proofs)
