"""Runs through functions and handlers that only contracts describe, played on machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from verifier.api import Specification
from verifier.errors import UsageError
from verifier.replay.replay import MACHINES
from verifier.spec import load

if TYPE_CHECKING:
    from pathlib import Path

    from verifier.trace.trace import Trace

TEXT = """
nmi: cld
 pushq %rax
 leaq 8(%rsp), %rdi
 call helper
 movq %rax, %gs:seen
 popq %rax
 iretq
"""
SPEC = """
format: 1
title: hidden code on machines
program: {{source: nmi.s}}
machine:
  stacks: {{nmi_ist: {{size: 1024}}, other: {{size: 64}}}}
  idt:
    nmi: {{entry: nmi, gate: interrupt, stack: nmi_ist}}
    page_fault: {{contract: {{}}, gate: interrupt}}
  percpu: {{seen: {{size: 8}}, area: {{size: 24}}}}
calls: {{helper: {{{contract}}}}}
environment: {{interrupted: [user: {{gs: kernel}}], events: {{nmi: any, page_fault: any}}}}
properties: {{subject: {{that: "{that}", during: [{during}]}}}}
"""
ROWS = [
    ("may: [page_fault, iret], stack: 16", "intact(frame)", "nmi, nmi in helper", ("nmi",)),
    ("may: [page_fault, iret], stack: 16", "nmi_blocked == 1", "nmi", ()),
    ("may: [page_fault], stack: 8", "intact(frame)", "nmi, page_fault in helper, nmi", ("page_fault", "nmi")),
    ("may: [page_fault], gives: {rax: 'rdi + 1'}, "
     "writes: ['dword %gs:(area+2)', other, {at: 'byte %gs:area', size: 17}]",
     "%gs:seen != nmi_ist.top - 39", "nmi, page_fault in helper", ("page_fault",)),
    ("may: [page_fault], requires: ['rax != 5']", "progress", "nmi", ()),
]  # fmt: skip


def run(folder: Path, contract: str, that: str, during: str) -> Trace:
    (folder / "nmi.s").write_text(TEXT)
    (folder / "spec.yaml").write_text(SPEC.format(contract=contract, that=that, during=during))
    trace = Specification(load(folder / "spec.yaml")).refute("subject").trace
    assert trace is not None
    return trace


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("contract", "that", "during", "events"), ROWS)
def test_a_machine_agrees(
    tmp_path: Path, contract: str, that: str, during: str, events: tuple[str, ...], machine: str
) -> None:
    trace = run(tmp_path, contract, that, during)
    assert [event for event, _, _ in trace.schedule] == ["nmi", *events]
    replayed = Specification(trace.model).replay(trace, machine)
    assert replayed.report is not None, replayed.why_not
    assert not replayed.report.differs, replayed.report
    assert replayed.report.steps == len(trace.steps)
    assert {m.deviation.name for m in replayed.report.met} <= {"no-rf-in-fault-frames"}
    assert any("broken-contract" in note for note in replayed.report.notes) == ("requires" in contract)


@pytest.mark.parametrize("machine", MACHINES)
def test_what_cannot_be_played_is_said(tmp_path: Path, machine: str) -> None:
    trace = run(tmp_path, "may: [page_fault], changes: [cr3]", "cr3 == interrupted.cr3", "nmi")
    with pytest.raises(UsageError, match="sets CR3 to"):
        Specification(trace.model).replay(trace, machine)
