"""Mutants that no property tells from the program they were made of, with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mutations import Mutant

#: Doing these twice is doing them once: they do not read what they write, or control never comes to the second one.
#: (`sti` is none of them: the shadow of the first is over after the second.)
_TWICE_IS_ONCE = (
    "cmp", "test", "j", "cli", "clac", "cld", "std", "ud2", "iretq", "ret", "mov", "lea", "and", "rdmsr", "wrmsr",
)  # fmt: skip


def why_idempotent(mutant: Mutant) -> str | None:
    code = mutant.before
    if mutant.after != f"{code}; {code}" or not code.startswith(_TWICE_IS_ONCE):
        return None
    if code.startswith("movb $0,"):
        return None  # an NMI between the two finds the flag clear, and is not on the final iret
    if code.startswith(("mov", "lea")):
        source, _, target = code.partition(" ")[2].rpartition(",")
        if target.startswith("%") and target in source:
            return None
    return "twice is once"


#: Put the other way round, two instructions do the same.
_APART = "NMIs are blocked and IF is 0: nothing strikes between the two, and neither touches what the other does"

SURVIVORS: dict[str, str] = {
    "17: cmpq $gp_handler,0(%rsp) -> nothing": (
        "the flags are those of the comparison with nmi_iret_address: what lies between it and gp_handler runs with "
        "NMIs blocked, and user code at such an address is told by its CS"
    ),
    "20: jb nmi_in_gp_handler -> jb nmi_on_iret": (
        "the CS in the frame stays 0, so the final iret faults once more, and the #GP handler puts it back"
    ),
    "55: cmpq $nmi_iret_address,8(%rax) -> nothing": (
        "ZF is still that of the comparison of the CS; no other #GP happens, which no-other-gp proves"
    ),
    "57: jne nmi_first -> nothing": "no other #GP happens, which no-other-gp proves",
    "57: jne nmi_first -> jne nmi": "no other #GP happens, so it is never taken",
    "57: jne nmi_first -> jne nmi_body": "no other #GP happens, so it is never taken",
    "98: jne gp_other -> nothing": "no other #GP happens, which no-other-gp proves",
    "98: jne gp_other -> jne nmi": "no other #GP happens, so it is never taken",
    "98: jne gp_other -> jne nmi_repeat": "no other #GP happens, so it is never taken",
    "60: jmp nmi_repeat -> jmp gp_handler_flag_set": "%rsp is loaded with the same word once more",
    "17: cmpq $gp_handler,0(%rsp); jb nmi_first -> "
    "jb nmi_first; cmpq $gp_handler,0(%rsp)": "as without the comparison: the flags are those of the one before",
    "31: movq %rsp,%gs:nmi_stack_ptr; movb $0xff,%gs:nmi_stack_nesting -> "
    "movb $0xff,%gs:nmi_stack_nesting; movq %rsp,%gs:nmi_stack_ptr": _APART,
    "46: movq %gs:nmi_stack_ptr,%rsp; movb $0xff,%gs:nmi_stack_nesting -> "
    "movb $0xff,%gs:nmi_stack_nesting; movq %gs:nmi_stack_ptr,%rsp": _APART,
    "56: popq %rax; jne nmi_first -> jne nmi_first; popq %rax": "no other #GP happens, so it is never taken",
    "57: jne nmi_first; movq %gs:nmi_stack_ptr,%rsp -> "
    "movq %gs:nmi_stack_ptr,%rsp; jne nmi_first": "no other #GP happens, so it is never taken",
    "58: movq %gs:nmi_stack_ptr,%rsp; movb $0xff,%gs:nmi_stack_nesting -> "
    "movb $0xff,%gs:nmi_stack_nesting; movq %gs:nmi_stack_ptr,%rsp": _APART,
    "65: pushq %rdx; movq %gs:nmi_stack_ptr,%rax -> movq %gs:nmi_stack_ptr,%rax; pushq %rdx": _APART,
    "70: movq %rdx,40(%rax); movq $0,8(%rax) -> movq $0,8(%rax); movq %rdx,40(%rax)": _APART,
    "78: movq 40(%rsp),%rdx; movq 16(%rsp),%rax -> movq 16(%rsp),%rax; movq 40(%rsp),%rdx": _APART,
    "98: jne gp_other; movb $0xff,%gs:nmi_stack_nesting -> "
    "movb $0xff,%gs:nmi_stack_nesting; jne gp_other": "no other #GP happens, so it is never taken",
}
