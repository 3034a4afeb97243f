"""`resumed`: what a context inside the program gets back that an event struck. Both engines, and each run confirmed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from explore_models import by_enumeration, by_fixpoint, write_model

from verifier.errors import SpecError

if TYPE_CHECKING:
    from pathlib import Path

#: An NMI handler with interrupts on, so that an interrupt strikes inside it; then the interrupt's handler.
BODY = "nmi:\n sti\n nop\nwork:\n nop\n cli\n iretq\nirq:\n"
FAULTING = "nmi:\n nop\nwork:\n ...\n iretq\npage_fault:\n"
IRQ: dict[str, Any] = {"events": "nmi: 1, irq: any", "idt": {"irq": "entry: irq, gate: interrupt"}}
OWN_STACK: dict[str, Any] = {
    "events": "nmi: 1, irq: 2",
    "idt": {"irq": "entry: irq, gate: interrupt, stack: nmi_ist"},
    "ist": False,
}
FAULT: dict[str, Any] = {
    "events": "nmi: 1, page_fault: any",
    "idt": {"page_fault": "entry: page_fault, gate: interrupt"},
    "holes": {"work": "may: [page_fault], keeps: [registers]"},
}
#: Goes back by RET: RIP and RFLAGS are put on the stack that was interrupted.
BY_RET = """
 pushq %rax
 pushq %rcx
 movq 40(%rsp),%rax
 subq $16,%rax
 movq 16(%rsp),%rcx
 movq %rcx,8(%rax)
 movq {flags}(%rsp),%rcx
 movq %rcx,(%rax)
 movq %rax,40(%rsp)
 popq %rcx
 popq %rax
 movq 24(%rsp),%rsp
 popfq
 ret
"""

#: Two ways to the body that differ in a register which nothing reads any more, the handler included.
UNREAD = """
nmi:
 movq $0,%rbx
 jrcxz 1f
 movq $3,%rbx
1:
 sti
 nop
work:
 nop
 cli
 movq $0,%rbx
 iretq
irq:
 movq $0,%rbx
 iretq
"""

CASES: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "a register that only the property reads": (UNREAD, IRQ, "rbx", "refuted"),
    "an interrupt that touches nothing": (BODY + " iretq\n", IRQ, "all", "proved"),
    "a register is gone": (BODY + " xorl %ecx,%ecx\n iretq\n", IRQ, "registers", "refuted"),
    "another register is gone": (BODY + " xorl %ecx,%ecx\n iretq\n", IRQ, "rax, rdx, cs", "proved"),
    "the saved flags are changed": (BODY + " orq $1,16(%rsp)\n iretq\n", IRQ, "flags", "refuted"),
    "a saved flag that is not asked for": (BODY + " orq $1,16(%rsp)\n iretq\n", IRQ, "zf, if", "proved"),
    "interrupts stay off": (BODY + " btrq $9,16(%rsp)\n iretq\n", IRQ, "if", "refuted"),
    "back by ret": (BODY + BY_RET.format(flags=32), OWN_STACK, "flags, registers", "proved"),
    "back by ret with other flags": (BODY + BY_RET.format(flags=24), OWN_STACK, "flags", "refuted"),
    "what a fault saves lies above its error code": (FAULTING + " addq $8,%rsp\n iretq\n", FAULT, "flags", "proved"),
    "a fault's handler drops a flag": (
        FAULTING + " addq $8,%rsp\n btrq $10,16(%rsp)\n iretq\n",
        FAULT,
        "df",
        "refuted",
    ),
    "RF is what the processor put into the frame of the fault": (
        FAULTING + " addq $8,%rsp\n btrq $16,16(%rsp)\n iretq\n",
        FAULT,
        "rf",
        "refuted",
    ),
    "the swapped GS base": (BODY + " swapgs\n iretq\n", IRQ, "gs_base", "refuted"),
    # a context that is left for good is not resumed, whatever becomes of its registers
    "abandoned": (
        BODY + " xorl %ecx,%ecx\n movq $leave,(%rsp)\n iretq\nleave:\n cli\n iretq\n",
        {**IRQ, "events": "nmi: 1, irq: 1"},
        "registers",
        "vacuous",
    ),
    # the handler starts the work over: the next interrupt strikes a context of its own at the same place
    "started over, then resumed": (
        BODY
        + " testb $1,%gs:flag\n jne 1f\n movb $1,%gs:flag\n movq 24(%rsp),%rsp\n xorl %ecx,%ecx\n sti\n jmp work\n"
        + "1: iretq\n",
        IRQ,
        "registers",
        "proved",
    ),
    # the second interrupt strikes the handler of the first: the inner one is resumed wrongly, then the outer one
    "nested": (
        BODY
        + " testb $1,%gs:flag\n jne 1f\n movb $1,%gs:flag\n sti\ninner: nop\n cli\n movb $0,%gs:flag\n iretq\n"
        + "1: movl $7,%ecx\n iretq\n",
        {**IRQ, "events": "nmi: 1, irq: 2"},
        "rcx",
        "refuted",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_context_gets_back(case: str, tmp_path: Path) -> None:
    program, more, names, verdict = CASES[case]
    model = write_model(tmp_path, program, {"p": f"that: 'resumed({names})'"}, **more)
    counts = {event: min(bound or 2, 2) for event, bound in model.environment.events.items()}
    found = by_fixpoint(model)["p"]
    assert found.verdict == verdict, found.reason
    merged, every_path = by_fixpoint(model, counts)["p"], by_enumeration(model, counts)["p"]
    assert (merged.verdict, every_path.verdict) == (verdict, verdict)
    if verdict == "refuted":
        assert merged.violation is not None
        assert every_path.violation is not None
        assert merged.violation.cost == every_path.violation.cost


@pytest.mark.parametrize("names", ["rip", "rsp, rax", "memory", "cr3", ""])
def test_refused(names: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError):
        write_model(tmp_path, BODY + " iretq\n", {"p": f"that: 'resumed({names})'"}, **IRQ)
