"""Faults and traps that strike in the text, played on machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from verifier.api import Specification
from verifier.replay.replay import MACHINES
from verifier.spec import load

if TYPE_CHECKING:
    from pathlib import Path

    from verifier.trace.trace import Trace

TEXT = """
nmi: cld
store: movb $1, %gs:seen
 pushq %rax
 popq %rax
exit: iretq
page_fault: addq $8, %rsp
 iretq
general_protection: addq $8, %rsp
 iretq
stack_fault: addq $8, %rsp
 iretq
segment_not_present: addq $8, %rsp
 iretq
debug: iretq
breakpoint: iretq
invalid_opcode: iretq
divide_error: iretq
"""
SPEC = """
format: 1
program: {{source: nmi.s}}
machine:
  stacks: {{nmi_ist: {{size: 1024}}}}
  rsp0: nmi_ist
  idt:
    nmi: {{entry: nmi, gate: interrupt, stack: {stack}}}
    page_fault: {{entry: page_fault, gate: interrupt}}
    general_protection: {{entry: general_protection, gate: interrupt}}
    stack_fault: {{entry: stack_fault, gate: interrupt}}
    segment_not_present: {{entry: segment_not_present, gate: interrupt}}
    debug: {{entry: debug, gate: interrupt}}
    breakpoint: {{entry: breakpoint, gate: interrupt, dpl: 3}}
    invalid_opcode: {{entry: invalid_opcode, gate: interrupt}}
    divide_error: {{entry: divide_error, gate: interrupt}}
  percpu: {{seen: {{size: 8}}, slot: {{size: 8, initially: nmi_ist.top}}}}
environment:
  interrupted: [{context}]
  events: {{nmi: any, page_fault: {{at: anywhere}}, general_protection: {{at: memory}}, debug: {{at: anywhere}},
           breakpoint: {{at: anywhere}}, invalid_opcode: {{at: [store]}},
           divide_error: {{at: [store]}}}}
  outermost: [nmi, page_fault, general_protection, debug, breakpoint, invalid_opcode, divide_error]
properties: {{subject: {{that: "{that}", during: [{during}]{at}}}}}
"""
ROWS = [
    ("intact(frame)", "nmi, page_fault at store, nmi at exit"),
    ("unreachable(page_fault)", "nmi, page_fault at exit"),
    ("nmi_blocked == 1", "nmi, page_fault at exit"),
    ("unreachable(general_protection)", "nmi, general_protection at store"),
    ("unreachable(debug)", "nmi, debug at store"),
    ("unreachable(breakpoint)", "nmi, breakpoint at store"),
    ("unreachable(invalid_opcode)", "nmi, invalid_opcode at store"),
]
#: An entry that moves the IST slot of its own gate down while the store may fault, so that nested NMIs have a stack.
MOVED = TEXT.replace("store:", " subq $256, %gs:slot\nstore:").replace(
    " pushq %rax\n", " cmpq $nmi, 0(%rsp)\n jz deep\n addq $256, %gs:slot\n pushq %rax\n", 1
) + "deep: nop\n iretq\n"
#: context, what is reached at the IRET to it: with a segment of the LDT, good or not; with one that the GDT has not
GONE = [
    ("user: {gs: kernel, ss: ldt}", "segment_not_present"),
    ("user: {gs: kernel, ss: ldt}", "stack_fault"),
    ("user: {gs: kernel, ss: ldt}", "general_protection"),
    ("user: {gs: kernel, cs: ldt, ss: ldt}", "segment_not_present"),
    ("user: {gs: kernel, cs: ldt, ss: ldt}", "general_protection"),
    ("user: {gs: kernel, cs: ldt}", "general_protection"),
    ("user: {gs: kernel, ss: 0x6b}", "general_protection"),
    ("user: {gs: kernel, cs: 0x73}", "general_protection"),
]
#: What the interrupted context raises.
EVENTS = ["page_fault", "general_protection", "debug", "breakpoint", "invalid_opcode", "divide_error"]


def run(
    folder: Path,
    that: str,
    during: str,
    context: str = "user: {gs: kernel}",
    stack: str = "nmi_ist",
    *,
    at: str = "",
    text: str = TEXT,
) -> Trace:
    (folder / "nmi.s").write_text(text)
    place = f", at: {at}" if at else ""
    text = SPEC.format(that=that, during=during, context=context, stack=stack, at=place)
    (folder / "spec.yaml").write_text(text)
    trace = Specification(load(folder / "spec.yaml")).refute("subject").trace
    assert trace is not None
    return trace


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("that", "during"), ROWS)
def test_a_machine_agrees(tmp_path: Path, that: str, during: str, machine: str) -> None:
    trace = run(tmp_path, that, during)
    replayed = Specification(trace.model).replay(trace, machine)
    assert replayed.report is not None, replayed.why_not
    assert not replayed.report.differs, replayed.report
    assert replayed.report.steps == len(trace.steps)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("context", ["user", "user: {cs: 0x23}", "kernel"])
@pytest.mark.parametrize("event", EVENTS)
def test_the_interrupted_context_raises_an_event(tmp_path: Path, event: str, context: str, machine: str) -> None:
    """Rules E1, E4, E5 and E6."""
    trace = run(tmp_path, f"unreachable({event})", event, context=context)
    replayed = Specification(trace.model).replay(trace, machine)
    assert replayed.report is not None, replayed.why_not
    assert not replayed.report.differs, replayed.report
    assert replayed.report.steps == len(trace.steps)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("context", "event"), GONE)
def test_a_segment_of_the_interrupted_context_is_gone(tmp_path: Path, context: str, event: str, machine: str) -> None:
    """Rule R13."""
    trace = run(tmp_path, f"unreachable({event})", "nmi", context=context)
    assert trace.steps[-1].delivered == (event,)
    replayed = Specification(trace.model).replay(trace, machine)
    if event == "stack_fault":
        assert replayed.report is None
        assert "do not break the property" in replayed.why_not
        return
    assert replayed.report is not None, replayed.why_not
    assert not replayed.report.differs, replayed.report
    assert replayed.report.steps == len(trace.steps)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("context", ["user: {gs: kernel, ss: ldt}", "user: {gs: kernel, cs: ldt, ss: ldt}"])
def test_a_segment_of_the_ldt_is_loaded(tmp_path: Path, context: str, machine: str) -> None:
    """Rule R13: it is good, and control comes home."""
    trace = run(tmp_path, "count(nmi) == 0", "nmi", context=context, at="outermost-return")
    assert trace.steps[-1].ended == "home"
    replayed = Specification(trace.model).replay(trace, machine)
    assert replayed.report is not None, replayed.why_not
    assert not replayed.report.differs, replayed.report


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("that", "during", "at"), [
    ("count(nmi) < 3", "nmi, page_fault at store, nmi at store, page_fault at store, nmi at store", "store"),
    ("count(nmi) < 2", "nmi, page_fault at store, nmi at store", "outermost-return"),
])  # fmt: skip
def test_an_ist_slot_is_a_datum(tmp_path: Path, that: str, during: str, at: str, machine: str) -> None:
    """Rule F4: each delivery takes it as it is then."""
    trace = run(tmp_path, that, during, stack="{slot: slot}", at=at, text=MOVED)
    delivered = [s.after.cells["rsp"] & -256 for s in trace.steps if s.delivered == ("nmi",)]
    assert len(set(delivered)) == len(delivered)
    replayed = Specification(trace.model).replay(trace, machine)
    assert replayed.report is not None, replayed.why_not
    assert not replayed.report.differs, replayed.report
    assert replayed.report.steps == len(trace.steps)
