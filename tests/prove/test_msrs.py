"""Model-specific registers that a specification lists, and the machine check in another (rules I9 and E7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from explore_models import write_model
from three_machines import judged

from verifier.errors import SpecError

if TYPE_CHECKING:
    from pathlib import Path

SAVED = """
nmi:
 pushq %rax
 pushq %rcx
 pushq %rdx
 movl $0x48,%ecx
 rdmsr
 shlq $32,%rdx
 orq %rdx,%rax
 pushq %rax
 xorl %eax,%eax
 xorl %edx,%edx
 wrmsr
work:
 nop
 popq %rax
 movq %rax,%rdx
 shrq $32,%rdx
 {back}
out:
 popq %rdx
 popq %rcx
 popq %rax
 iretq
"""
ONE: dict[str, Any] = {"machine": "  msrs: {0x48: {initially: 5}}"}
#: A register that is a cell is written as a cell.
BASES = """
nmi:
 movl ${number},%ecx
 movl $7,%eax
 xorl %edx,%edx
 wrmsr
 xorl %eax,%eax
 rdmsr
work:
 nop
1: jmp 1b
"""
CHECKS = """
nmi:
 nop
 iretq
mce:
 nop
done:
 nop
 {clear}
 iretq
"""
CLEAR = "pushq %rax; pushq %rcx; pushq %rdx; movl $0x17a,%ecx; xorl %eax,%eax; xorl %edx,%edx; wrmsr"
BACK = "popq %rdx; popq %rcx; popq %rax"
CHECKED: dict[str, Any] = {
    "events": "machine_check: any",
    "outermost": "machine_check",
    "ist": False,
    "idt": {"machine_check": "entry: mce, gate: interrupt"},
    "machine": "  msrs: {0x17a: {initially: 0}}",
}
TWO = {**CHECKED, "events": "machine_check: 2"}
ON_ITS_OWN_STACK = {**CHECKED, "idt": {"machine_check": "entry: mce, gate: interrupt, stack: nmi_ist"}}
CASES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "saved, cleared and put back": (SAVED.format(back="wrmsr"), "that: at_rest", "proved", ONE),
    "not put back": (SAVED.format(back=""), "that: at_rest", "refuted", ONE),
    "cleared": (SAVED.format(back="wrmsr"), "that: msr_0x48 == 0, at: work", "proved", ONE),
    "by its low half": (SAVED.format(back="wrmsr"), "that: msr_0x48 == 5, at: out", "proved", ONE),
    "not listed": (SAVED.format(back="wrmsr"), "that: restored(all)", "unknown", {}),
    "other contents": (SAVED.format(back="wrmsr"), "that: msr_0x48 == 5, at: out", "refuted",
                       {"machine": "  msrs: {0x48: {}}"}),
    **{f"{cell} has a number": (BASES.format(number=number), f"that: {cell} == 7 and rax == 7, at: work", "proved", {})
       for cell, number in {"fs_base": 0xC000_0100, "gs_base": 0xC000_0101, "kernel_gs_base": 0xC000_0102}.items()},
    "a machine check sets MCIP": (CHECKS.format(clear=""), "that: msr_0x17a & 4 == 4, at: mce", "refuted", TWO),
    "one does": (CHECKS.format(clear=""), "that: msr_0x17a & 4 == 4, at: mce", "proved",
                 {**TWO, "events": "machine_check: 1"}),
    "and another bit may be 0": (CHECKS.format(clear=""), "that: msr_0x17a & 1 == 1, at: mce", "refuted",
                                 {**TWO, "events": "machine_check: 1"}),
    "no other": (CHECKS.format(clear=""), "that: msr_0x17a >> 4 == 0, at: mce", "proved",
                 {**TWO, "events": "machine_check: 1"}),
    "any number may nest where it is not listed": (
        CHECKS.format(clear=""), "that: restored(all)", "proved", {**TWO, "machine": ""},
    ),
    "one alone is no mishap": (
        CHECKS.format(clear=""), "that: no_mishap", "proved", {**TWO, "events": "machine_check: 1"},
    ),
    "and shuts down where it is": (CHECKS.format(clear=""), "that: no_mishap", "refuted", TWO),
    "cleared at the end, too early on a stack of its own": (
        CHECKS.format(clear=f"{CLEAR}; {BACK}"), "that: no_mishap", "refuted", ON_ITS_OWN_STACK,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_read_and_written(case: str, tmp_path: Path) -> None:
    text, inside, verdict, more = CASES[case]
    result = judged(write_model(tmp_path, text, {"p": inside}, **more))["p"]
    assert result.verdict == verdict, result.reason


@pytest.mark.parametrize(("more", "message"), [
    ("  msrs: {0xc0000101: {}}", "0xc0000101 is gs_base, a register of its own"),
    ("  msrs: {0x48: {}, 72: {}}", "'msr_0x48' is the name of something else"),
    ("  msrs: {0x100000000: {}}", "must be in"),
    ("  msrs: {spec_ctrl: {}}", "must be an integer"),
    ("  msrs: {0x48: {}}\n  data: {msrs: {size: 8}}", "'msrs' is the name of a stack or of data"),
])  # fmt: skip
def test_mistakes(more: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=message):
        write_model(tmp_path, SAVED.format(back=""), {"p": "that: progress"}, machine=more)
