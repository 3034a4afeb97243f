"""Stacks that events use: shared by gates, moved by the code, chosen by whoever is interrupted (rules F4 to F6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from explore_models import write_model
from three_machines import judged

from verifier.errors import SpecError

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = "nmi:\n nop\nwork:\n nop\n iretq\nmce:\n nop\n iretq\n"
#: Moves its IST slot down for as long as it runs, so that a machine check has a stack of its own.
MOVES = """
nmi:
 nop
moved:
 subq $128,%gs:word
work:
 nop
 addq $128,%gs:word
back:
 iretq
mce:
 nop
 iretq
"""
SHARED: dict[str, Any] = {
    "events": "nmi: any, machine_check: 1",
    "idt": {"machine_check": "entry: mce, gate: interrupt, stack: nmi_ist"},
}
SLOT: dict[str, Any] = {
    "events": "nmi: 1, machine_check: 1",
    "idt": {"machine_check": "entry: mce, gate: interrupt, stack: {slot: word}"},
    "word": ", initially: nmi_ist.top",
}
#: Takes an NMI for nested where the interrupted RSP lies on the NMI stack.
CHECK = """
nmi:
 pushq %rdx
 leaq 48(%rsp),%rdx
 cmpq %rdx,32(%rsp)
 ja first
 subq $512,%rdx
 cmpq %rdx,32(%rsp)
 jb first
nested:
 popq %rdx
 iretq
first:
 movb $1,%gs:other
 popq %rdx
 iretq
irq:
 iretq
"""
GAP = "syscall_gap: {cpl: 0, gs: user, stack: none, fixed: {if: 0, tf: 0, df: 0, ac: 0}}"
OPEN_GAP = "syscall_gap: {cpl: 0, gs: user, stack: none}"
IRQ: dict[str, Any] = {"events": "nmi: any, irq: 1", "idt": {"irq": "entry: irq, gate: interrupt"}}
#: Clears a bit of RSP below one that the alignment of its stack tells, too.
ONE_BIT = "nmi:\n subq $4,%rsp\n btrq $2,%rsp\nlower:\n addq $8,%rsp\n iretq\n"
QUIET = CHECK.replace(" movb $1,%gs:other\n", " nop\n")
CASES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "two gates on one stack: the second overwrites the first's frame": (
        PLAIN, "that: intact(frame)", "refuted", SHARED,
    ),
    "one alone does not": (PLAIN, "that: restored(all)", "proved", {}),
    "it is on the same stack": (
        PLAIN, "that: rsp == nmi_ist.top - 40, at: mce", "proved", SHARED,
    ),
    "a slot is read at delivery": (
        MOVES, "that: unreachable(mce), during: [nmi, machine_check at work]", "refuted", SLOT,
    ),
    "and has what the code put there": (
        MOVES, "that: 'count(nmi) == 1 and 24(%rsp) == nmi_ist.top - 40 -> rsp >= nmi_ist.top - 168', at: mce",
        "proved", SLOT,
    ),
    "before and after the move too": (
        MOVES, "that: rsp == nmi_ist.top - 40, at: mce", "refuted", SLOT,
    ),
    "too late or too early a move loses the frame": (MOVES, "that: intact(frame)", "refuted", SLOT),
    "a slot that holds anything": (
        PLAIN, "that: restored(all)", "refuted", {**SLOT, "word": ""},
    ),
    "a user's RSP may be on the NMI stack": (
        CHECK, "that: unreachable(nested)", "refuted", {"interrupted": "user: {gs: kernel}"},
    ),
    "and elsewhere": (CHECK, "that: unreachable(first)", "refuted", {"interrupted": "user: {gs: kernel}"}),
    "either way it is restored": (CHECK, "that: restored(all)", "proved", {"interrupted": "user: {gs: kernel}"}),
    "a kernel's is not": (CHECK, "that: unreachable(nested)", "proved", {}),
    "in the gap after SYSCALL it may be": (
        QUIET, "that: unreachable(nested)", "refuted", {"interrupted": GAP},
    ),
    "either way that is restored": (QUIET, "that: restored(all)", "proved", {"interrupted": GAP}),
    "which is told from user mode by CPL": (
        QUIET, "that: 'interrupted.cpl == 3', at: nested", "refuted", {"interrupted": f"{GAP}, user"},
    ),
    "the GS base is the user's there": (CHECK, "that: restored(all)", "refuted", {"interrupted": GAP}),
    "no interrupt comes in the gap": (
        QUIET, "that: restored(all)", "proved", {"interrupted": GAP, **IRQ, "outermost": "nmi, irq"},
    ),
    "where IF is set its frame goes to an address that the user chose": (
        QUIET, "that: restored(all)", "refuted", {"interrupted": OPEN_GAP, **IRQ, "outermost": "nmi, irq"},
    ),
    "a bit of RSP is cleared": (ONE_BIT, "that: rsp == nmi_ist.top - 48, at: lower", "proved", {}),
    "and nothing is lost": (ONE_BIT, "that: restored(all)", "proved", {}),
    "an NMI in the handler of a fault of the user": (
        "nmi:\n nop\n iretq\nfault:\n addq $8,%rsp\nhandled:\n nop\n iretq\n",
        "that: restored(all)", "proved",
        {"interrupted": "user", "events": "page_fault: 1, nmi: any", "outermost": "page_fault",
         "idt": {"page_fault": "entry: fault, gate: interrupt, stack: nmi_ist"}, "ist": False},
    ),
    "after the exit swapgs": (
        "nmi:\n nop\n iretq\nfault:\n addq $8,%rsp\n swapgs\nout:\n swapgs\nlast:\n iretq\n",
        "that: gs_base == percpu.base, at: nmi", "refuted",
        {"interrupted": "user: {gs: user}", "events": "page_fault: 1, nmi: any", "outermost": "page_fault",
         "idt": {"page_fault": "entry: fault, gate: interrupt, stack: nmi_ist"}, "ist": False},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_which_stack_is_used(case: str, tmp_path: Path) -> None:
    text, inside, verdict, more = CASES[case]
    result = judged(write_model(tmp_path, text, {"p": inside}, **more))["p"]
    assert result.verdict == verdict, result.reason


def test_the_trace_of_a_frame_at_a_chosen_address(tmp_path: Path) -> None:
    more = {"interrupted": OPEN_GAP, **IRQ, "outermost": "irq"}
    result = judged(write_model(tmp_path, QUIET, {"p": "that: progress"}, **more))["p"]
    assert result.violation is not None
    assert result.violation.kind == "wild-write"


@pytest.mark.parametrize(("stack", "message"), [
    ("{slot: flag}", "'flag' has 1 bytes: an IST slot has 8"),
    ("{slot: wrod}", "unknown name of data 'wrod'"),
    ("{slot: msr_0x48}", "'msr_0x48' is no memory"),
    ("{}", "has no 'slot'"),
])  # fmt: skip
def test_mistakes(stack: str, message: str, tmp_path: Path) -> None:
    idt = {"machine_check": f"entry: mce, gate: interrupt, stack: {stack}"}
    with pytest.raises(SpecError, match=message):
        write_model(tmp_path, PLAIN, {"p": "that: progress"}, idt=idt, machine="  msrs: {0x48: {}}")
