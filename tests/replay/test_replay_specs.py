"""Every refuted property of every shipped specification: its run on the interpreter, on QEMU and on Bochs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from verifier.api import Specification
from verifier.machine.events import EVENTS
from verifier.replay.replay import INTERPRETER, MACHINES
from verifier.spec import load
from verifier.trace.trace import Trace

SPECS = sorted((Path(__file__).parents[2] / "specs").glob("*.yaml"))
REFUTED = [(path.stem, p.name) for path in SPECS for p in load(path).properties if p.expect == "refuted"]

#: Verdicts that rest on "a faulting IRET unblocks NMIs": QEMU cannot show them, but for this.
FAULTING_IRET = {
    ("nested_nmi_2010_cli_return", "nmi-in-gp-window"),
    ("nmi_on_stack_user_stays", "frame-intact"),
    *((f"nested_nmi_repair_{repair}", name) for repair in ("1_return", "2_flag")
      for name in ("context-restored", "saved-frame-intact", "nmi-in-gp-window")),
}  # fmt: skip


@cache
def trace_of(spec: str, name: str) -> Trace:
    path = next(p for p in SPECS if p.stem == spec)
    trace = Specification(load(path)).refute(name).trace
    assert trace is not None
    return trace


def expected(machine: str, spec: str, name: str, trace: Trace) -> set[str]:
    """The deviations that a run has to bring out."""
    if spec.endswith("literal_iret"):
        return {"qemu": {"short-iret-truncates-rsp"}, "bochs": {"short-iret-pops-three-items"}}.get(machine, set())
    if machine != "qemu":
        return set()
    found = set()
    if any(event in EVENTS and EVENTS[event].saved_rf for step in trace.steps for event in step.delivered):
        found.add("no-rf-in-fault-frames")
    if (spec, name) in FAULTING_IRET:
        found.add("faulting-iret-keeps-nmis-blocked")
    return found


@pytest.mark.parametrize("machine", [INTERPRETER, *MACHINES])
@pytest.mark.parametrize(("spec", "name"), REFUTED)
def test_a_machine_agrees_with_the_run_that_refutes(spec: str, name: str, machine: str) -> None:
    trace = trace_of(spec, name)
    replayed = Specification(trace.model).replay(trace, machine)
    assert replayed.report is not None, replayed.why_not
    assert not replayed.report.differs, replayed.report
    assert replayed.report.steps == len(replayed.trace.steps)
    met = {m.deviation.name for m in replayed.report.met}
    assert met == expected(machine, spec, name, replayed.trace)


def test_what_rests_on_the_faulting_iret_is_refuted() -> None:
    assert set(REFUTED) >= FAULTING_IRET


@pytest.mark.parametrize(("spec", "name"), sorted(FAULTING_IRET))
def test_on_qemu_the_nmi_after_a_faulting_iret_does_not_come(
    spec: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is put right here after the faulting IRET: the next NMI of the run is held back."""
    monkeypatch.setattr("verifier.replay.follow.unblock", lambda machine, image: None)
    trace = trace_of(spec, name)
    report = Specification(trace.model).replay(trace, "qemu").report
    assert report is not None
    assert report.differs
    assert trace.steps[report.steps].move.action == "nmi" or report.differs[0].where == "nmi_blocked"
