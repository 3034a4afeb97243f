"""The search that merges states and the one that takes every path say the same of every shipped specification.

Both judge the same bounded model. Set VERIFIER_FULL=1 for larger bounds.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from explore_models import by_enumeration, by_fixpoint, verdicts

from verifier.spec import load

SPECS = Path(__file__).parents[2] / "specs"
FULL = os.environ.get("VERIFIER_FULL") == "1"
STATES = 400_000 if FULL else 6_000
BOUNDS = [
    {"nmi": 2, "irq": 0, "page_fault": 1, "machine_check": 0},
    {"nmi": 1, "irq": 1, "page_fault": 1, "machine_check": 1},
]
if FULL:
    BOUNDS += [
        {"nmi": 2, "irq": 1, "page_fault": 1, "machine_check": 1},
        {"nmi": 3, "irq": 0, "page_fault": 2, "machine_check": 0},
    ]
#: Here a single NMI already faults for ever: there is no end to the paths.
ENDLESS = {"nested_nmi_2010_literal_iret"}


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda b: ",".join(f"{n}={c}" for n, c in b.items()))
@pytest.mark.parametrize("path", sorted(SPECS.glob("*.yaml")), ids=lambda p: p.stem)
def test_both_engines_agree(path: Path, bound: dict[str, int]) -> None:
    model = load(path)
    counts = {event: bound[event] for event in model.environment.events}
    every_path = by_enumeration(model, counts, states=500 if path.stem in ENDLESS else STATES)
    assert ("unknown" in verdicts(every_path).values()) == (path.stem in ENDLESS)
    if path.stem in ENDLESS:
        return
    merged = by_fixpoint(model, counts)
    assert verdicts(merged) == verdicts(every_path)
    for name, result in every_path.items():
        if result.violation is not None:
            found = merged[name].violation
            assert found is not None
            assert found.cost == result.violation.cost, "both engines show a shortest run"
