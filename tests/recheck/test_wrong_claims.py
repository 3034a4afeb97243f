"""A proof of one property is none of another that does not hold: of every kind of property."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from recheck_certificates import COUNTER, Lines, proved

from verifier.recheck import Refused, recheck
from verifier.spec import load

if TYPE_CHECKING:
    from pathlib import Path

WRONG = COUNTER.with_name("wrong.yaml")
NAMES = [p.name for p in load(WRONG).properties if p.expect == "refuted"]


def claiming(name: str) -> Lines:
    """The certificate of what is right, that says of the same states that ``name`` is right too."""
    lines = Lines.of(proved(WRONG)[0])
    wanted = "right-resumed" if name == "resumed" else "right"
    (proof,) = (p for p in lines.proofs if wanted in p.opening["properties"])
    proof.opening["properties"].append(name)
    lines.proofs = [proof]
    return lines


def test_only_what_is_right_is_proved() -> None:
    assert proved(WRONG)[1] == {p.name for p in load(WRONG).properties if p.expect == "proved"}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_wrong_is_refused(name: str, tmp_path: Path) -> None:
    lines = claiming(name)
    for state in lines.proofs[0].states:
        state["rank"] = state["rank"] or 1
    file = tmp_path / "certificate"
    file.write_bytes(lines.content())
    with pytest.raises(Refused, match=f"{name} does not hold" if name != "progress" else "rank below 1"):
        list(recheck(file, WRONG))
