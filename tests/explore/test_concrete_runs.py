"""Where the prover says proved, random concrete runs break nothing; and each of their steps is a symbolic one.

Set VERIFIER_FULL=1 for more runs.
"""

from __future__ import annotations

import os
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest
from concrete_runs import ConcreteRun, Shadow, places

from verifier.lift import lift
from verifier.machine.layout import Layout
from verifier.machine.step import Stepper
from verifier.spec import load
from verifier.spec.expression import Progress
from verifier.terms import Solver
from verifier.trace.confirm import View
from verifier.trace.trace import Trace

if TYPE_CHECKING:
    from verifier.spec.model import Model, Property

SPECS = Path(__file__).parents[2] / "specs"
PROVED = ["nested_nmi_repaired", "nested_nmi_repaired_irqs_on", "nested_nmi_repair_3_gp_window"]
RUNS = 5000 if os.environ.get("VERIFIER_FULL") == "1" else 100
SHADOWED = RUNS // 10


def breaks(model: Model, p: Property, run: ConcreteRun) -> bool:
    """Whether a run that came home breaks a property anywhere."""
    if isinstance(p.that, Progress):
        return run.ended != "home"

    def holds(number: int, home: bool) -> bool:
        steps = tuple(run.steps[: number + 1])
        trace = Trace(model, p, run.first.home.context, run.start, steps, "", "")
        return View(trace, steps[-1].after, home).truth(p.that)

    if p.at == "outermost-return":
        return not holds(len(run.steps) - 1, True)
    wanted = [n for n, s in places(run) if p.at == "always" or s.after.rip in p.at]
    if p.at == "always":
        wanted = wanted[:: max(1, len(wanted) // 8)]
    return any(not holds(n, False) for n in wanted)


@pytest.mark.parametrize("name", PROVED)
def test_no_concrete_run_breaks_what_is_proved(name: str) -> None:
    model = load(SPECS / f"{name}.yaml")
    wanted = [p for p in model.properties if p.during is None and p.expect == "proved"]
    nested = 0
    for seed in range(RUNS):
        random = Random(seed)
        run = ConcreteRun(model, random, random.randrange(1, 9))
        assert run.ended == "home", f"seed {seed}: {run.steps[-1].detail}"
        nested += sum(s.move.action == "nmi" for s in run.steps) > 1
        for p in wanted:
            assert not breaks(model, p, run), f"seed {seed}: {p.name}"
    assert nested > RUNS // 10


@pytest.mark.parametrize("path", sorted(SPECS.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_concrete_step_is_a_symbolic_one(path: Path) -> None:
    model = load(path)
    layout = Layout(model.machine)
    stepper = Stepper(layout, Solver(layout.facts), lambda rip: lift(model.machine.program.instructions[rip]))
    for seed in range(SHADOWED):
        random = Random(seed)
        run = ConcreteRun(model, random, random.randrange(1, 9))
        del run.steps[300:]
        Shadow(run, stepper).follow()
