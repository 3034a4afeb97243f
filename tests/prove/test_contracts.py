"""Contracts of code that is not shown: functions that are called, handlers, holes.

Each row is judged, its counterexample re-executed, its proof rechecked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from verifier.prove import Prover
from verifier.prove.certificate import Certificate
from verifier.recheck.check import recheck
from verifier.spec import load
from verifier.trace.counterexample import concretise

if TYPE_CHECKING:
    from pathlib import Path

    from verifier.prove.verdict import Result

SPEC = """
format: 1
title: code that is not shown
program: {{source: nmi.s}}
machine:
  stacks: {{nmi_ist: {{size: 2048}}}}
  idt:
    nmi: {{entry: nmi, gate: interrupt, stack: nmi_ist}}
    {gate}
  percpu: {{base: {{size: 8}}, seen: {{size: 8, initially: 0}}}}
calls: {{{calls}}}
environment: {{interrupted: [user], events: {{nmi: {nmi}{events}}}}}
properties:
  subject: {{that: "{that}", at: {at}}}
"""
CALLED = "nmi: cld\n pushq %rax\n pushq %rbx\n call helper\nafter: popq %rbx\n popq %rax\n iretq\n"
HANDLED = "nmi: nop\nwork: call helper\nafter: iretq\n"
PAGE_FAULT = "page_fault: {contract: {%s}, gate: interrupt}"


def judge(folder: Path, text: str, that: str, at: str = "always", *, calls: str = "", gate: str = "",
          events: str = "", nmi: str = "any") -> Result:  # fmt: skip
    """The verdict on one property, with all that stands behind it checked."""
    (folder / "nmi.s").write_text(text)
    spec = folder / "spec.yaml"
    spec.write_text(SPEC.format(calls=calls, gate=gate, events=events, that=that, at=at, nmi=nmi))
    if at == "run":
        spec.write_text(spec.read_text().replace(", at: run", ""))
    model = load(spec)
    certificate = Certificate(model)
    prover = Prover(model, witness=certificate.add)
    (result,) = prover.results(model.properties)
    assert (concretise(prover, result) is not None) == (result.verdict == "refuted")
    if result.verdict == "proved":
        (folder / "certificate").write_bytes(certificate.content())
        (checked,) = recheck(folder / "certificate", spec)
        assert checked.judged
    return result


@pytest.mark.parametrize(
    ("contract", "that", "at", "verdict"),
    [
        ("", "rbx == interrupted.rbx", "after", "proved"),
        ("", "rcx == interrupted.rcx", "after", "refuted"),
        ("", "cr3 == interrupted.cr3", "after", "proved"),
        ("keeps: [rcx]", "rcx == interrupted.rcx", "after", "proved"),
        ("saves: [rcx]", "rcx == interrupted.rcx", "after", "proved"),
        ("", "rsp >= nmi_ist.top - 368", "always", "proved"),  # frame, rax, rbx, return address, six registers, 256
        ("", "rsp >= nmi_ist.top - 367", "always", "refuted"),
        ("stack: 8, keeps: [registers]", "rsp >= nmi_ist.top - 72", "always", "proved"),
        ("stack: 4096", "rsp >= nmi_ist.base", "always", "refuted"),
        ("", "%gs:seen == 0", "after", "proved"),
        ("writes: [seen]", "%gs:seen == 0", "after", "refuted"),
        ("", "progress", "run", "proved"),
    ],
)
def test_a_function_does_what_the_psabi_says(
    tmp_path: Path, contract: str, that: str, at: str, verdict: str
) -> None:
    assert judge(tmp_path, CALLED, that, at, calls=f"helper: {{{contract}}}", nmi="1").verdict == verdict


@pytest.mark.parametrize(
    ("contract", "that", "at", "verdict"),
    [
        ("", "resumed(registers, flags)", "run", "proved"),
        ("", "unreachable(page_fault_handler)", "run", "refuted"),
        ("", "nmi_blocked == 0", "after", "refuted"),  # without a fault it is still blocked
        ("", "nmi_blocked == 1", "after", "refuted"),  # and a fault's IRET unblocks
        ("", "if == 0", "page_fault_handler", "proved"),
        ("", "rsp >= nmi_ist.base + 512", "always", "proved"),
        ("stack: 1024", "rsp >= nmi_ist.base + 512", "always", "refuted"),
        ("name: fault, ", "unreachable(fault)", "run", "refuted"),
    ],
)
def test_a_handler_that_is_not_shown_returns(
    tmp_path: Path, contract: str, that: str, at: str, verdict: str
) -> None:
    gate = PAGE_FAULT % contract
    if contract.startswith("name"):
        gate = f"page_fault: {{contract: {{}}, {contract}gate: interrupt}}"
    result = judge(tmp_path, HANDLED, that, at, calls="helper: {may: [page_fault]}", gate=gate,
                   events=", page_fault: any", nmi="1")  # fmt: skip
    assert result.verdict == verdict, result.reason


def test_the_iret_of_a_hidden_handler_lets_the_next_nmi_in(tmp_path: Path) -> None:
    result = judge(tmp_path, HANDLED, "intact(frame)", "always", calls="helper: {may: [page_fault]}",
                   gate=PAGE_FAULT % "", events=", page_fault: any")  # fmt: skip
    assert result.verdict == "refuted"
    assert result.violation is not None
    assert struck(tmp_path) == ["nmi", "page_fault", "nmi"]


def struck(folder: Path) -> list[str]:
    """The events of the run that breaks the property."""
    prover = Prover(load(folder / "spec.yaml"))
    (result,) = prover.results(prover.model.properties)
    trace = concretise(prover, result)
    assert trace is not None
    return [event for event, _, _ in trace.schedule]
