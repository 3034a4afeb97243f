"""Faults and traps that strike in the text that is shown, and in the interrupted context (rules E1 to E6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from explore_models import write_model
from three_machines import judged

from verifier.errors import SpecError

if TYPE_CHECKING:
    from pathlib import Path

#: An NMI handler that uses memory in one place, and handlers that only return.
TEXT = """
nmi:
 nop
store:
 movb $1,%gs:other
after:
 nop
exit:
 iretq
page_fault:
 addq $8,%rsp
page_fault_exit:
 iretq
general_protection:
 addq $8,%rsp
 iretq
debug:
 iretq
breakpoint:
 iretq
"""
GATES = {
    "page_fault": "entry: page_fault, gate: interrupt",
    "general_protection": "entry: general_protection, gate: interrupt",
    "debug": "entry: debug, gate: interrupt",
    "breakpoint": "entry: breakpoint, gate: interrupt, dpl: 3",
    "overflow": "entry: breakpoint, gate: interrupt",
    "irq": "entry: breakpoint, gate: interrupt",
}
SS = TEXT.replace(" nop\nstore:", " movl %ss,%eax\n movl %eax,%ss\nstore:", 1)
INT3 = (
    "nmi:\n movl %ss,%eax\n movl %eax,%ss\nhere:\n int3\nafter:\n nop\n iretq\n" + TEXT[TEXT.index("page_fault:") :]
)
#: RSP is no address when something strikes at ``here`` (rule H2).
LOST = """
nmi:
 movabsq $0x900000000000,%rsp
here:
 nop
1: jmp 1b
double_fault: jmp 1b
stack_fault: jmp 1b
page_fault: jmp 1b
breakpoint: jmp 1b
"""
LOST_GATES = {
    "page_fault": "entry: page_fault, gate: interrupt",
    "breakpoint": "entry: breakpoint, gate: interrupt",
    "double_fault": "entry: double_fault, gate: interrupt, stack: nmi_ist",
    "stack_fault": "entry: stack_fault, gate: interrupt, stack: nmi_ist",
}
PAGE_LOST = "nmi: 1, page_fault: {times: 1, at: here}"

FAULTING = "nmi: 1, page_fault: {times: 1, at: memory}"
EVERYWHERE = "nmi: 1, page_fault: {times: 1, at: anywhere}"
PROTECTED = "nmi: 1, general_protection: {times: 1, at: memory}"
DEBUGGED = "nmi: 1, debug: {times: 1, at: anywhere}"

BREAKPOINT = {"breakpoint": GATES["breakpoint"]}

#: name -> text, events, the inside of the property, verdict, and what else differs.
CASES: dict[str, tuple[str, str, str, str, dict[str, Any]]] = {
    "nothing strikes in the text by default": (
        TEXT, "nmi: any, page_fault: {times: 1, at: exit}", "that: unreachable(page_fault)", "refuted", {},
    ),
    "a fault at an instruction lets the next NMI in": (
        TEXT, "nmi: any, page_fault: {times: 1, at: memory}", "that: intact(frame)", "refuted", {},
    ),
    "on the current stack that is no harm": (
        TEXT, "nmi: 2, page_fault: {at: memory, times: 1}", "that: restored(all)", "proved", {"ist": False},
    ),
    "memory is accessed here": (
        TEXT, FAULTING, "that: unreachable(page_fault), during: [nmi, page_fault at store]",
        "refuted", {},
    ),
    "and by IRET": (
        TEXT, FAULTING, "that: unreachable(page_fault), during: [nmi, page_fault at exit]",
        "refuted", {},
    ),
    "but not by NOP": (
        TEXT, FAULTING, "that: unreachable(page_fault), during: [nmi, page_fault at after]",
        "vacuous", {},
    ),
    "anywhere is everywhere": (
        TEXT, EVERYWHERE, "that: unreachable(page_fault), during: [nmi, page_fault at after]",
        "refuted", {},
    ),
    "in a label": (
        TEXT, "nmi: 1, page_fault: {at: [in store, after]}",
        "that: unreachable(page_fault), during: [nmi, page_fault at store]", "refuted", {},
    ),
    "a fault saves its own rip and RF=1": (
        TEXT, "nmi: 1, page_fault: {times: 1, at: store}",
        "that: '8(%rsp) == $store && 24(%rsp) & 0x10000 != 0', at: page_fault".replace("$store", "store"), "proved", {},
    ),
    "that is not 0 of an NMI": (
        TEXT, "nmi: any, page_fault: {times: 1, at: store}", "that: '16(%rsp) & 0x10000 != 0', at: nmi", "refuted", {},
    ),
    "a page fault below CPL 3 has no user bit": (
        TEXT, FAULTING, "that: '0(%rsp) & 4 == 0', at: page_fault", "proved", {},
    ),
    "the other bits are open": (
        TEXT, FAULTING, "that: '0(%rsp) & 2 == 0', at: page_fault", "refuted", {},
    ),
    "the lowest too": (
        TEXT, FAULTING, "that: '0(%rsp) & 1 == 0', at: page_fault", "refuted", {},
    ),
    "but only those that are defined": (
        TEXT, FAULTING, "that: '0(%rsp) & 0x7fff7f00 == 0', at: page_fault", "proved", {},
    ),
    "and so is CR2": (
        TEXT, FAULTING, "that: 'cr2 == interrupted.cr2', at: page_fault", "refuted", {},
    ),
    "which is canonical": (
        TEXT, FAULTING, "that: 'cr2 + 0x800000000000 < 0x1000000000000', at: page_fault",
        "proved", {},
    ),
    "which another fault leaves alone": (
        TEXT, PROTECTED, "that: 'cr2 == interrupted.cr2', at: general_protection",
        "proved", {},
    ),
    "a selector has 16 bits": (
        TEXT, PROTECTED, "that: '0(%rsp) < 0x10000', at: general_protection",
        "proved", {},
    ),
    "a fault at an instruction leaves NMIs blocked": (
        TEXT, "nmi: 1, page_fault: {times: 1, at: store}", "that: nmi_blocked == 1, at: page_fault", "proved", {},
    ),
    "one of an IRET does not": (
        TEXT, "nmi: 1, page_fault: {times: 1, at: exit}", "that: nmi_blocked == 1, at: page_fault", "refuted", {},
    ),
    "unless it comes before the IRET begins": (
        TEXT, "nmi: 1, page_fault: {times: 1, at: exit}", "that: nmi_blocked == 0, at: page_fault", "refuted", {},
    ),
    "a trap comes before it": (
        TEXT, "nmi: 1, debug: {times: 1, at: exit}", "that: nmi_blocked == 1, at: debug", "proved", {},
    ),
    "a probe saves the boundary": (
        TEXT, "nmi: 1, breakpoint: {times: 1, at: store}", "that: 0(%rsp) == store, at: breakpoint", "proved", {},
    ),
    "and so does an overflow": (
        TEXT, "nmi: 1, overflow: {times: 1, at: store}", "that: 0(%rsp) == store, at: breakpoint", "proved", {},
    ),
    "a page fault whose frame goes nowhere is a double fault": (
        LOST, PAGE_LOST, "that: unreachable(double_fault)", "refuted", {"idt": LOST_GATES},
    ),
    "and no stack fault": (
        LOST, PAGE_LOST, "that: unreachable(stack_fault)", "proved", {"idt": LOST_GATES},
    ),
    "but a trap's is a stack fault": (
        LOST, "nmi: 1, breakpoint: {times: 1, at: here}", "that: unreachable(double_fault)", "proved",
        {"idt": LOST_GATES},
    ),
    "a #DB leaves DR6 but for its low bits": (
        TEXT, DEBUGGED, "that: dr6 >> 4 == interrupted.dr6 >> 4, at: debug", "proved",
        {"interrupted": "kernel: {fixed: {tf: 0}}"},
    ),
    "which tell nothing": (
        TEXT, DEBUGGED, "that: dr6 & 15 != 0, at: debug", "refuted", {},
    ),
    "the shadow of MOV SS holds it back": (
        SS, DEBUGGED, "that: unreachable(debug), during: [nmi, debug at store]", "proved", {},
    ),
    "until the next boundary": (
        SS, DEBUGGED, "that: unreachable(debug), during: [nmi, debug at after]", "refuted", {},
    ),
    "not so a fault": (
        SS, FAULTING, "that: unreachable(page_fault), during: [nmi, page_fault at store]",
        "refuted", {},
    ),
    "after MOV SS and INT3 it is on the first instruction of the handler": (
        INT3, DEBUGGED, "that: unreachable(debug), during: [nmi, debug at breakpoint]",
        "refuted", {},
    ),
    "code elsewhere raises what its contract says, not what the text does": (
        TEXT[: TEXT.index("general_protection:")].replace("page_fault:", "unused:"),
        "nmi: 1, page_fault: {at: anywhere}", "that: unreachable(unused)", "proved",
        {"idt": {"page_fault": "contract: {stack: 0}, gate: interrupt"}, "ist": False},
    ),
    "a fault of the interrupted context": (
        TEXT, "page_fault: any", "that: restored(all)", "proved", {"outermost": "page_fault", "ist": False},
    ),
    "its frame is intact": (
        TEXT, "page_fault: 1", "that: intact(frame at rsp + 8), at: page_fault", "proved", {"outermost": "page_fault"},
    ),
    "a user's page fault may have the user bit": (
        TEXT, "page_fault: 1", "that: '0(%rsp) & 4 == 0', at: page_fault", "refuted",
        {"outermost": "page_fault", "interrupted": "user", "machine": "  rsp0: nmi_ist"},
    ),
    "a kernel's may not": (
        TEXT, "page_fault: 1", "that: '0(%rsp) & 4 == 0', at: page_fault", "proved", {"outermost": "page_fault"},
    ),
    "a breakpoint of the user": (
        TEXT, "breakpoint: any", "that: restored(all)", "proved",
        {"outermost": "breakpoint", "interrupted": "user", "machine": "  rsp0: nmi_ist"},
    ),
    "a #DB of the interrupted context": (
        TEXT, "debug: any", "that: restored(all)", "proved", {"outermost": "debug", "interrupted": "user, kernel",
                                                               "machine": "  rsp0: nmi_ist"},
    ),
    "and NMIs in the handler of a fault": (
        TEXT, "page_fault: 1, nmi: any", "that: restored(all)", "proved", {"outermost": "page_fault"},
    ),
    "that faults in turn": (
        TEXT, "page_fault: {times: 2, at: memory}, nmi: any", "that: progress", "refuted", {"outermost": "page_fault"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_where_events_strike(case: str, tmp_path: Path) -> None:
    text, events, inside, verdict, more = CASES[case]
    names = [name for name in GATES if name in events or name == "breakpoint"]
    more = {"idt": {name: GATES[name] for name in names}, **more}
    result = judged(write_model(tmp_path, text, {"p": inside}, events=events, **more))["p"]
    assert result.verdict == verdict, result.reason


def test_why_a_debug_event_does_not_strike(tmp_path: Path) -> None:
    text, events, inside, _, _ = CASES["the shadow of MOV SS holds it back"]
    model = write_model(tmp_path, text, {"p": inside}, events=events, idt={"debug": GATES["debug"]} | BREAKPOINT)
    assert judged(model)["p"].reason.endswith("held back by the shadow of MOV SS in all")


def test_a_breakpoint_of_the_user_needs_a_gate_that_it_may_use(tmp_path: Path) -> None:
    idt = {"breakpoint": "entry: breakpoint, gate: interrupt"}
    with pytest.raises(SpecError, match="breakpoint of user needs a gate that CPL 3 may use"):
        write_model(
            tmp_path, TEXT, {"p": "that: progress"}, events="breakpoint: any", outermost="breakpoint",
            interrupted="user", idt=idt,
        )  # fmt: skip
