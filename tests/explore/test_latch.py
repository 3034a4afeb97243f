"""An NMI held pending adds no behaviour where NMIs may strike at any boundary: same verdicts, more states."""

from pathlib import Path

import pytest

from verifier.prove import Prover
from verifier.spec import load

SPECS = Path(__file__).parents[2] / "specs"


@pytest.mark.parametrize(
    "name", ["nested_nmi_2010", "nested_nmi_2010_cli", "nested_nmi_repair_2_flag", "nested_nmi_repaired"]
)
def test_latched_nmis_change_no_verdict(name: str) -> None:
    model = load(SPECS / f"{name}.yaml")
    properties = [p for p in model.properties if p.during is None]
    plain = list(Prover(model).results(properties))
    latching = list(Prover(model, latching=True).results(properties))
    assert [r.verdict for r in latching] == [r.verdict for r in plain]
    assert latching[0].states > plain[0].states
