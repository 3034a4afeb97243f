"""What LSL, LAR, VERR, VERW and RDPID find, as far as a specification tells it (rules I13 and I14)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from explore_models import write_model
from three_machines import judged

from verifier.errors import SpecError

if TYPE_CHECKING:
    from pathlib import Path

OTHERS = """  segments: {others: {
    0x7b: {kind: read_only_data, limit: 0x3007}, 0x53: {kind: data}, 0x59: {kind: data, limit: 0xffffffff}}}"""
LOOK = """
nmi:
 pushq %rax
 pushq %rdx
 movl ${selector},%eax
 movq $-1,%rdx
 {instruction}
 jnz no
yes:
 nop
out:
 popq %rdx
 popq %rax
 iretq
no:
 jmp out
"""
#: Selector, instruction, property, verdict.
CASES: dict[str, tuple[int, str, str, str]] = {
    "a limit": (0x7B, "lsl %eax,%edx", "that: rdx == 0x3007, at: out", "proved"),
    "its zero flag": (0x7B, "lsl %eax,%edx", "that: unreachable(no)", "proved"),
    "whatever the RPL, below the DPL": (0x78, "lsl %eax,%edx", "that: rdx == 0x3007, at: out", "proved"),
    "of 16 bits": (0x59, "lsl %ax,%dx", "that: rdx == 0xffffffffffffffff, at: out", "proved"),
    "of 64 bits": (0x59, "lsl %rax,%rdx", "that: rdx == 0xffffffff, at: yes", "proved"),
    "an RPL beyond the DPL": (0x5B, "lsl %eax,%edx", "that: unreachable(yes)", "proved"),
    "leaves the destination": (0x5B, "lsl %eax,%edx", "that: rdx == -1, at: out", "proved"),
    "no limit given": (0x53, "lsl %eax,%edx", "that: unreachable(no)", "proved"),
    "any limit then": (0x53, "lsl %eax,%edx", "that: rdx == 0xffffffff, at: out", "refuted"),
    "another table": (0x7F, "lsl %eax,%edx", "that: unreachable(no)", "refuted"),
    "no such descriptor": (0x103, "lsl %eax,%edx", "that: unreachable(yes)", "refuted"),
    "a null selector": (3, "lsl %eax,%edx", "that: unreachable(yes)", "proved"),
    "of the kernel's code": (0x10, "lsl %eax,%edx", "that: unreachable(no)", "proved"),
    "rights": (0x7B, "lar %eax,%edx", "that: unreachable(no)", "proved"),
    "of any value": (0x7B, "lar %eax,%edx", "that: rdx == 0x3007, at: out", "refuted"),
    "of a bad RPL": (0x5B, "lar %eax,%edx", "that: unreachable(yes)", "proved"),
    "readable": (0x7B, "verr %ax", "that: unreachable(no)", "proved"),
    "not writable": (0x7B, "verw %ax", "that: unreachable(yes)", "proved"),
    "writable": (0x53, "verw %ax", "that: unreachable(no)", "proved"),
    "code is not writable": (0x10, "verw %ax", "that: unreachable(yes)", "proved"),
    "and can be read": (0x10, "verr %ax", "that: unreachable(no)", "proved"),
    "writable, of a bad RPL": (0x5B, "verw %ax", "that: unreachable(yes)", "proved"),
    "a stack of what cannot be written": (0x78, "movl %eax,%ss; xorl %eax,%eax", "that: restored(all)", "refuted"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_found(case: str, tmp_path: Path) -> None:
    selector, instruction, inside, verdict = CASES[case]
    text = LOOK.format(selector=selector, instruction=instruction)
    result = judged(write_model(tmp_path, text, {"p": inside}, machine=OTHERS))["p"]
    assert result.verdict == verdict, result.reason


#: How a kernel with FSGSBASE finds its per-CPU data: the number of the CPU, and a table by it.
ENTRY = """
nmi:
 pushq %rax
 pushq %rbx
 rdgsbase %rbx
 {number}
 andl $0xfff,%eax
 movq bases(,%rax,8),%rax
 wrgsbase %rax
work:
 nop
 wrgsbase %rbx
 popq %rbx
 popq %rax
 iretq
.data
bases: .quad 0, 0
base_of_2: .quad 0
base_of_3: .quad 0
"""
LSL, RDPID, RDTSCP = (
    "movl $0x7b,%eax; lsl %eax,%eax", "rdpid %rax",
    "pushq %rcx; pushq %rdx; rdtscp; movl %ecx,%eax; popq %rdx; popq %rcx",
)  # fmt: skip
BASES = "  data: {base_of_2: {initially: percpu.base}}\n"
SEGMENT = "  segments: {{others: {{0x7b: {{kind: read_only_data, limit: {limit}}}}}}}"
AUX = "  msrs: {{0xc0000103: {{initially: {limit}}}}}"
KERNELS = "that: gs_base == percpu.base, at: work"
NUMBERS: dict[str, tuple[str, str, str, str]] = {
    "LSL": (LSL, SEGMENT.format(limit=0x1002), KERNELS, "proved"),
    "LSL, another number": (LSL, SEGMENT.format(limit=0x1003), KERNELS, "refuted"),
    "LSL, and home": (LSL, SEGMENT.format(limit=2), "that: restored(all)", "proved"),
    "RDPID": (RDPID, AUX.format(limit=0x2002), KERNELS, "proved"),
    "RDPID, another number": (RDPID, AUX.format(limit=1), KERNELS, "refuted"),
    "RDPID, not told": (RDPID, "", KERNELS, "refuted"),
    "RDTSCP": (RDTSCP, AUX.format(limit=2), KERNELS, "proved"),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_a_base_by_the_number_of_the_cpu(case: str, tmp_path: Path) -> None:
    number, machine, inside, verdict = NUMBERS[case]
    user = "user: {gs: user, fixed: {cr4: 0x10020}}"
    text = ENTRY.format(number=number)
    result = judged(write_model(tmp_path, text, {"p": inside}, machine=BASES + machine, interrupted=user))["p"]
    assert result.verdict == verdict, result.reason


@pytest.mark.parametrize(("others", "message"), [
    ("{0x7f: {kind: data}}", "0x7f selects the LDT"),
    ("{0x28: {kind: data}}", "0x28 selects the same descriptor as 0x2b"),
    ("{0x50: {kind: data}, 0x53: {kind: data}}", "0x53 selects the same descriptor as 0x50"),
    ("{3: {kind: data}}", "must be in 8"),
    ("{0x50: {kind: tss}}", "unknown kind of segment 'tss'"),
    ("{0x50: {limit: 3}}", "has no 'kind'"),
    ("{0x50: {kind: code32, limit: 3}}", "32-bit code with a limit of its own"),
    ("{0x50: {kind: data, limit: 0x100000}}", "no descriptor has the limit 0x100000"),
    ("{0x50: {kind: data, limit: 0x100000000}}", "must be in 0..4294967295"),
])  # fmt: skip
def test_mistakes(others: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=message):
        write_model(tmp_path, "nmi: iretq", {"p": "that: progress"}, machine=f"  segments: {{others: {others}}}")
