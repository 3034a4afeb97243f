"""Programs against which states must not be merged: each looks alike where it differs.

Every one of them was written as an attack on one step of the argument in `verifier.explore.recognise`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from directed import Case, differs

if TYPE_CHECKING:
    from pathlib import Path


IRQ = {"irq": "entry: irq, gate: interrupt"}

CASES = [
    Case(
        "a havoc variable bounded through a plain one",
        # rax is anything (a hole), then equal to rbx; whether rbx < 5 is decided on the way, and rax only later
        """
nmi:
    push %rax
    push %rbx
body:
    ...
    cmp %rbx,%rax
    jne leave
    cmp $5,%rbx
    jb 1f
    nop
1:  mov $0,%ebx
    cmp $5,%rax
    jae bad
leave:
    pop %rbx
    pop %rax
    iretq
bad:
    nop
    jmp leave
""",
        "unreachable(bad)",
        "refuted",
        {"holes": {"body": "keeps: [rbx]"}},
    ),
    Case(
        "masked",
        # IF differs where interrupts are masked first
        """
nmi:
    testb $1,%gs:other
    je 1f
    sti
1:  nop
    nop
    cli
    iretq
irq:
    movb $1,%gs:flag
    iretq
""",
        "at_rest",
        "refuted",
        {"events": "nmi: any, irq: any", "idt": IRQ},
    ),
    Case(
        "IF differs, decided by a literal on the path",
        """
nmi:
    pushfq
    popq %gs:word
    testl $0x200,24-8(%rsp)
    testb $1,%gs:other
    je 1f
    testl $0x200,16(%rsp)
    je 1f
    nop
    pushq 16(%rsp)
    popfq
1:  nop
    nop
    cli
    iretq
irq:
    movb $1,%gs:flag
    iretq
""",
        "at_rest",
        "refuted",
        {"events": "nmi: any, irq: any", "idt": IRQ},
    ),
    Case(
        "the only copy of a saved word is in a register that is not read again",
        """
nmi:
    testb $1,%gs:other
    jne 1f
    mov (%rsp),%rcx
    movq $0,(%rsp)
    jmp 2f
1:  xor %ecx,%ecx
    nop
    nop
    nop
    movq $0,(%rsp)
2:  jmp 2b
""",
        "intact(frame)",
        "refuted",
        {"events": "nmi: 1"},
    ),
    Case(
        "the only copy of a saved word is equal to a register by the path alone",
        """
nmi:
    testb $1,%gs:other
    jne 1f
    cmp (%rsp),%rcx
    jne 3f
    movq $0,(%rsp)
    jmp 2f
1:  xor %ecx,%ecx
    nop
    nop
    nop
    nop
    movq $0,(%rsp)
2:  jmp 2b
3:  jmp 3b
""",
        "intact(frame)",
        "refuted",
        {"events": "nmi: 1"},
    ),
    Case(
        "read at home",
        # memory below the interrupted stack, read at home
        """
nmi:
    testb $1,%gs:other
    jne 1f
    mov 24(%rsp),%rax
    movq $1,-8(%rax)
    jmp 2f
1:  mov 24(%rsp),%rax
    nop
    nop
    nop
    movq $2,-8(%rax)
2:  xor %eax,%eax
    iretq
""",
        '"qword -8(%rsp) == 1", at: outermost-return',
        "refuted",
    ),
    Case(
        "memory in a stack of its own, read at home",
        """
nmi:
    testb $1,%gs:other
    jne 1f
    jmp 2f
1:  nop
    nop
    nop
    movq $2,(%rsp)
    movq 8(%rsp),%rax
2:  xor %eax,%eax
    jmp 3f
3:  hlt
    iretq
""",
        "intact(frame at nmi_ist.top - 40), at: outermost-return",
        "refuted",
    ),
    Case(
        "memory in a stack of its own, read at home: the saved cs below the frame",
        """
nmi:
    testb $1,%gs:other
    jne 1f
    movq $1,-64(%rsp)
    jmp 2f
1:  nop
    nop
    nop
    movq $2,-64(%rsp)
2:  nop
    iretq
""",
        '"qword -24(%rsp) == 1", at: outermost-return',
        "refuted",
        {"ist": False},
    ),
    Case(
        "read",
        # what a property at a label reads
        """
nmi:
    testb $1,%gs:other
    jne 1f
    mov $1,%ecx
    jmp 2f
1:  nop
    nop
    nop
    mov $2,%ecx
2:  nop
the_end:
    xor %ecx,%ecx
    iretq
""",
        '"ecx == 1", at: the_end',
        "refuted",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_states_that_differ_are_not_merged(case: Case, tmp_path: Path) -> None:
    assert differs(case, tmp_path) == ""
