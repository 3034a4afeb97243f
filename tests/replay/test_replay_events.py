"""Faults and traps that strike in the text, played on machines; and what no machine here can play, in a sentence."""

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
store: movb $1, %gs:seen
 pushq %rax
 popq %rax
exit: iretq
page_fault: addq $8, %rsp
 iretq
general_protection: addq $8, %rsp
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
    debug: {{entry: debug, gate: interrupt}}
    breakpoint: {{entry: breakpoint, gate: interrupt, dpl: 3}}
    invalid_opcode: {{entry: invalid_opcode, gate: interrupt}}
    divide_error: {{entry: divide_error, gate: interrupt}}
  percpu: {{seen: {{size: 8}}, slot: {{size: 8, initially: nmi_ist.top}}}}
{machine}
environment:
  interrupted: [{context}]
  events: {{nmi: any, page_fault: {{at: anywhere}}, general_protection: {{at: memory}}, debug: {{at: anywhere}},
           breakpoint: {{at: anywhere}}, invalid_opcode: {{at: [store]}},
           divide_error: {{at: [store]}}}}
  outermost: [nmi, page_fault, general_protection, debug, breakpoint, invalid_opcode, divide_error]
properties: {{subject: {{that: "{that}", during: [{during}]}}}}
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
#: What the interrupted context raises.
EVENTS = ["page_fault", "general_protection", "debug", "breakpoint", "invalid_opcode", "divide_error"]
#: what is played, more of the machine, the context, the stack of NMIs, what is said
REFUSED = [
    ("nmi", "  msrs: {0x48: {}}", "user", "nmi_ist", r"lists model-specific registers"),
    ("nmi", "", "user: {ss: ldt}", "nmi_ist", "a replay has no LDT"),
    ("nmi", "", "user", "{slot: slot}", "the IST slot of nmi is in memory"),
]


def run(
    folder: Path, that: str, during: str, machine: str = "", context: str = "user: {gs: kernel}", stack: str = "nmi_ist"
) -> Trace:
    (folder / "nmi.s").write_text(TEXT)
    text = SPEC.format(that=that, during=during, machine=machine, context=context, stack=stack)
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
@pytest.mark.parametrize(("during", "more", "context", "stack", "said"), REFUSED)
def test_what_cannot_be_played_is_said(
    tmp_path: Path, during: str, more: str, context: str, stack: str, said: str, machine: str
) -> None:
    trace = run(tmp_path, "cpl == 3", during, more, context, stack)
    with pytest.raises(UsageError, match=said):
        Specification(trace.model).replay(trace, machine)
