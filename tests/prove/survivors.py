"""Mutants of the repaired sketch that no property tells from it, with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mutations import Mutant

#: Doing these twice is doing them once: they do not read what they write, or control never comes to the second one.
#: (`sti` is none of them: the shadow of the first is over after the second.)
_TWICE_IS_ONCE = ("cmp", "test", "j", "cli", "ud2", "iretq", "ret", "mov")


def why_idempotent(mutant: Mutant) -> str | None:
    code = mutant.before.rpartition("\t")[2]
    if not mutant.after.endswith(f"{code}; {code}") or not code.startswith(_TWICE_IS_ONCE):
        return None
    if code.startswith("movb $0,"):
        return None  # an NMI between the two finds the flag clear, and is not on the final iret
    if code.startswith("mov"):
        source, _, target = code.partition(" ")[2].rpartition(",")
        if target.startswith("%") and target in source:
            return None
    return "twice is once"


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
    "82: btrq $9,%rax -> btrq $9,%rax; btrq $9,%rax": (
        "the carry is clear then, so IF is not set again: where it was set, the body may change it or a cli follows"
    ),
    "87: jc 1f -> nothing": "IF is not set again: where it was set, the body may change it or a cli follows",
    "91: sti -> nothing": "IF is not set again: where it was set, the body may change it or a cli follows",
    "98: jne gp_other -> nothing": "no other #GP happens, which no-other-gp proves",
    "98: jne gp_other -> jne nmi": "no other #GP happens, so it is never taken",
    "98: jne gp_other -> jne nmi_repeat": "no other #GP happens, so it is never taken",
    "60: jmp nmi_repeat -> jmp gp_handler_flag_set": "%rsp is loaded with the same word once more",
}
