"""The search that merges states and the one that takes every path say the same of every property of every shipped
specification.

Both judge the same bounded model, and both show a shortest run. VERIFIER_FULL=1: up to two NMIs, two page faults, an
interrupt and a machine check (three minutes, 1.6 GB).
"""

from __future__ import annotations

import os
from multiprocessing import get_context
from pathlib import Path

import pytest
from explore_models import bounded, verdicts

from verifier.explore.search import Limits
from verifier.prove.prover import Prover
from verifier.spec import load
from verifier.trace.counterexample import concretise

SPECS = Path(__file__).parents[2] / "specs"
FULL = os.environ.get("VERIFIER_FULL") == "1"
BOUNDS = [
    {"nmi": 2, "irq": 0, "page_fault": 1, "machine_check": 0},
    {"nmi": 1, "irq": 1, "page_fault": 1, "machine_check": 1},
]
if FULL:
    BOUNDS = [
        {"nmi": n, "irq": i, "page_fault": p, "machine_check": i}
        for n in (1, 2)
        for i in (0, 1)
        for p in (0, 1, 2)
    ]
LIMITS = Limits(states=400_000, megabytes=4_000)
#: The second design has more paths with two NMIs than anybody can walk.
FEW = [{"nmi": 1, "irq": 0, "page_fault": 1, "machine_check": 0}]
#: What faults at an IRET is tried again for ever: no bound on events bounds the paths.
ENDLESS = ("nmi_on_stack_bad_ss", "nmi_on_stack_user_stays")
CASES = [
    (path, bound)
    for path in sorted(SPECS.glob("*.yaml"))
    if path.stem not in ENDLESS
    for bound in (FEW if path.stem.startswith("nmi_on_stack") else BOUNDS)
]


def name_of(case: tuple[Path, dict[str, int]]) -> str:
    path, bound = case
    return "-".join((path.stem, ",".join(f"{n}={c}" for n, c in bound.items())))


@pytest.mark.parametrize(("path", "bound"), CASES, ids=map(name_of, CASES))
def test_both_engines_agree(path: Path, bound: dict[str, int]) -> None:
    if FULL:  # in a process of its own: the memory that a search may take is that of its process
        with get_context("spawn").Pool(1) as pool:
            pool.apply(agree, (path, bound))
    else:
        agree(path, bound)


def agree(path: Path, bound: dict[str, int]) -> None:
    """Fails where the engines disagree."""
    model = load(path)
    counts = {event: bound.get(event, bound["page_fault"]) for event in model.environment.events}
    every_path = {r.property.name: r for r in Prover(model, counts, LIMITS).results(model.properties)}
    merging = Prover(bounded(model, counts), limits=LIMITS)
    merged = {r.property.name: r for r in merging.results(model.properties)}
    assert verdicts(merged) == verdicts(every_path)
    assert "unknown" not in verdicts(merged).values()
    for name, result in merged.items():
        concretise(merging, result)
        expected = every_path[name].violation
        if result.violation is not None and expected is not None:
            assert result.violation.cost == expected.cost, "both engines show a shortest run"
