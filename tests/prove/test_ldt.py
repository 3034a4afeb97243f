"""Stack and code segments of the LDT, which may be gone when the interrupted context is returned to (rule R13)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from explore_models import write_model
from three_machines import judged

from verifier.errors import SpecError

if TYPE_CHECKING:
    from pathlib import Path

#: They try again.
HANDLERS = "".join(
    f"{name}:\n addq $8,%rsp\n iretq\n" for name in ("general_protection", "stack_fault", "segment_not_present")
)
PLAIN = "nmi:\n nop\nback:\n iretq\n" + HANDLERS
FAULTS = ("general_protection", "stack_fault", "segment_not_present")
IDT = {name: f"entry: {name}, gate: interrupt" for name in FAULTS}
SS: dict[str, Any] = {"interrupted": "user: {ss: ldt}", "idt": IDT, "events": "nmi: 1"}
CS: dict[str, Any] = {**SS, "interrupted": "user: {cs: ldt, ss: ldt}"}
CASES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "a good SS is what it was": (PLAIN, "that: restored(all)", "proved", SS),
    "it may be bad": (PLAIN, "that: unreachable(general_protection)", "refuted", SS),
    "its selector is in the frame": (PLAIN, "that: intact(frame)", "proved", SS),
    "and so is that of CS": (PLAIN, "that: intact(frame)", "proved", CS),
    "where it can be lost alone": (
        PLAIN.replace(" nop\n", " movq $0x2b,32(%rsp)\n", 1), "that: intact(frame)", "refuted", SS,
    ),
    "or not present, as #SS": (PLAIN, "that: unreachable(stack_fault)", "refuted", SS),
    "or as #NP": (PLAIN, "that: unreachable(segment_not_present)", "refuted", SS),
    "the error code is the selector": (
        PLAIN, "that: '0(%rsp) == interrupted.ss & 0xfffc', at: stack_fault", "proved", SS,
    ),
    "with TI set": (PLAIN, "that: '0(%rsp) & 7 == 4', at: [stack_fault, general_protection]", "proved", SS),
    "the fault saves the IRET": (PLAIN, "that: 8(%rsp) == back, at: segment_not_present", "proved", SS),
    "and no other instruction does": (
        PLAIN, "that: 8(%rsp) == back, at: general_protection", "proved", SS,
    ),
    "whose faults unblock NMIs": (PLAIN, "that: nmi_blocked == 0, at: segment_not_present", "proved", SS),
    "a CS of the LDT is never #SS": (
        PLAIN, "that: '0(%rsp) == interrupted.ss & 0xfffc', at: stack_fault", "proved", CS,
    ),
    "but #NP": (PLAIN, "that: '0(%rsp) == interrupted.ss & 0xfffc', at: segment_not_present", "refuted", CS),
    "32-bit code lies below 4 GB": (PLAIN, "that: interrupted.rip < 0x100000000", "proved", CS),
    "without an LDT nothing of it": (
        PLAIN, "that: unreachable(stack_fault)", "proved", {**SS, "interrupted": "user"},
    ),
    "32-bit code of the GDT comes back too": (
        PLAIN, "that: restored(all)", "proved", {**SS, "interrupted": "user: {cs: 0x23}"},
    ),
    "the kernel's own selector may be loaded": (
        "nmi:\n pushq %rax\n movl %ds,%eax\n movl %eax,%ds\n popq %rax\nback:\n iretq\n" + HANDLERS,
        "that: 8(%rsp) == back, at: general_protection", "refuted", SS,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_a_selector_of_the_ldt_means(case: str, tmp_path: Path) -> None:
    text, inside, verdict, more = CASES[case]
    result = judged(write_model(tmp_path, text, {"p": inside}, **more))["p"]
    assert result.verdict == verdict, result.reason


@pytest.mark.parametrize("context", ["kernel: {ss: ldt}", "user: {ss: LDT}", "user: {ss: 'ldt'}"])
def test_mistakes(context: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError):
        write_model(tmp_path, PLAIN, {"p": "that: progress"}, **{**SS, "interrupted": context})
