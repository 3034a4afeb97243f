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

#: Of the bounds that tell whether an interrupted RSP lies on the NMI stack.
_BOUND = (
    "at the last iretq RSP is T-144, elsewhere on the NMI stack the word is 1, and an RSP that user mode chose is told "
    "by DF: where exactly the stack ends decides nothing"
)
_ONCE_MORE = "that the C code runs once more is what a nested NMI brings about, too"
_DEAD_RAX = "LEA leaves the flags alone, and nobody reads rax where the jump leads"
_GIVEN_BACK = (
    "what strikes between the two gives all registers back, as context-restored shows, and neither touches what the "
    "other does"
)
_ONE_CS = "the slot has the CS of what the outermost NMI interrupted, and at CPL 0 there is only the kernel's"
_NO_OTHER_GP = "no other #GP happens, which no-other-gp proves"
_BLOCKED_THERE = "what lies between them runs with NMIs blocked, and user code at such an address is told by its CS"
_FLAG_IS_SET = "from there on the flag is set, so that an NMI is nested and does not come here"

SURVIVORS: dict[str, str] = {
    "17: cmpq $gp_handler,0(%rsp) -> nothing": (
        "the flags are those of the comparison with nmi_iret_address: what lies between it and gp_handler runs with "
        "NMIs blocked, and user code at such an address is told by its CS"
    ),
    "17: cmpq $gp_handler,0(%rsp) -> cmpq $nmi_nested_return,0(%rsp)": _BLOCKED_THERE,
    "19: cmpq $gp_handler_flag_set,0(%rsp) -> cmpq $nmi_repeat,0(%rsp)": _FLAG_IS_SET,
    "20: jb nmi_in_gp_handler -> jbe nmi_in_gp_handler": _FLAG_IS_SET,
    "20: jb nmi_in_gp_handler -> jb nmi_on_iret": (
        "the CS in the frame stays 0, so the final iret faults once more, and the #GP handler puts it back"
    ),
    "55: cmpq $nmi_iret_address,8(%rax) -> nothing": (
        "ZF is still that of the comparison of the CS; no other #GP happens, which no-other-gp proves"
    ),
    "57: jne nmi_first -> nothing": _NO_OTHER_GP,
    "57: jne nmi_first -> jne nmi": "no other #GP happens, so it is never taken",
    "57: jne nmi_first -> jne nmi_body": "no other #GP happens, so it is never taken",
    "98: jne gp_other -> nothing": _NO_OTHER_GP,
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
    "handlers.s:15: ...; addq $8,%rsp -> addq $8,%rsp; ...": "the body neither reads nor pops the error code",
    "nested_nmi_variants.S:21: cmpq $gp_handler,0(%rsp) -> nothing": (
        "the flags are those of the comparison with nmi_iret_address: what lies between it and gp_handler runs with "
        "NMIs blocked, and user code at such an address is told by its CS"
    ),
    "nested_nmi_variants.S:21: cmpq $gp_handler,0(%rsp) -> cmpq $nmi_in_gp_window,0(%rsp)": _BLOCKED_THERE,
    "nested_nmi_variants.S:23: cmpq $gp_window_end,0(%rsp) -> cmpq $gp_uncorrupt,0(%rsp)": _FLAG_IS_SET,
    "nested_nmi_variants.S:24: jb nmi_in_gp_window -> jbe nmi_in_gp_window": _FLAG_IS_SET,
    "nested_nmi_variants.S:94: jne is_unnested_nmi -> jne nmi": _NO_OTHER_GP,
    "nested_nmi_variants.S:94: jne is_unnested_nmi -> jne regular_nmi_code": _NO_OTHER_GP,
    "nested_nmi_variants.S:97: jmp gp_uncorrupt -> jmp gp_window_end": "%rsp is loaded with the same word once more",
    "nested_nmi_variants.S:103: jne gp_other -> jne gp_uncorrupt": _NO_OTHER_GP,
    "nested_nmi_variants.S:103: jne gp_other -> jne nmi": _NO_OTHER_GP,
    "nested_nmi_variants.S:119: ud2 -> nothing": _NO_OTHER_GP,
    "nested_nmi_variants.S:21: cmpq $gp_handler,0(%rsp); jb is_unnested_nmi -> "
    "jb is_unnested_nmi; cmpq $gp_handler,0(%rsp)": "as without the comparison: the flags are those of the one before",
    "nested_nmi_variants.S:33: movq %rsp,%gs:nmi_stack_ptr; movb $0xff,%gs:nmi_stack_nesting -> "
    "movb $0xff,%gs:nmi_stack_nesting; movq %rsp,%gs:nmi_stack_ptr": _APART,
    "nested_nmi_variants.S:49: movq %gs:nmi_stack_ptr,%rsp; movb $0xff,%gs:nmi_stack_nesting -> "
    "movb $0xff,%gs:nmi_stack_nesting; movq %gs:nmi_stack_ptr,%rsp": _APART,
    "nested_nmi_variants.S:57: pushq %rdx; movq %gs:nmi_stack_ptr,%rax -> "
    "movq %gs:nmi_stack_ptr,%rax; pushq %rdx": _APART,
    "nested_nmi_variants.S:62: movq %rdx,40(%rax); movq $0,8(%rax) -> movq $0,8(%rax); movq %rdx,40(%rax)": _APART,
    "nested_nmi_variants.S:67: movq 40(%rsp),%rdx; movq 16(%rsp),%rax -> "
    "movq 16(%rsp),%rax; movq 40(%rsp),%rdx": _APART,
    "nested_nmi_variants.S:93: popq %rax; jne is_unnested_nmi -> jne is_unnested_nmi; popq %rax": _NO_OTHER_GP,
    "nested_nmi_variants.S:94: jne is_unnested_nmi; movq %gs:nmi_stack_ptr,%rsp -> "
    "movq %gs:nmi_stack_ptr,%rsp; jne is_unnested_nmi": _NO_OTHER_GP,
    "nested_nmi_variants.S:95: movq %gs:nmi_stack_ptr,%rsp; movb $0xff,%gs:nmi_stack_nesting -> "
    "movb $0xff,%gs:nmi_stack_nesting; movq %gs:nmi_stack_ptr,%rsp": _APART,
    "nested_nmi_variants.S:103: jne gp_other; movb $0xff,%gs:nmi_stack_nesting -> "
    "movb $0xff,%gs:nmi_stack_nesting; jne gp_other": _NO_OTHER_GP,
    "nested_nmi_variants.S:92: cmpq $nmi_iret_address,8(%rax) -> nothing": _NO_OTHER_GP,
    "nested_nmi_variants.S:94: jne is_unnested_nmi -> nothing": _NO_OTHER_GP,
    "nested_nmi_variants.S:103: jne gp_other -> nothing": _NO_OTHER_GP,
    "nmi_on_stack.S:93: pushq 32(%rax) -> "
    "pushq 32(%rax); pushq 32(%rax)": "one word more above the frame, where nobody looks",
    "nmi_on_stack.S:106: call nmi_c -> call nmi_c; call nmi_c": _ONCE_MORE,
    "nmi_on_stack.S:234: call nmi_c -> call nmi_c; call nmi_c": _ONCE_MORE,
    "nmi_on_stack.S:212: xorl %ebx,%ebx -> xorl %ebx,%ebx; xorl %ebx,%ebx": "0 either way",
    "nmi_on_stack.S:221: incl %ebx -> incl %ebx; incl %ebx": "the count is only ever compared with 0",
    "nmi_on_stack.S:69: clac; cld -> cld; clac": _APART,
    "nmi_on_stack.S:72: cld; testb $3,8(%rsp) -> testb $3,8(%rsp); cld": _APART,
    "nmi_on_stack.S:81: swapgs; pushq %rax -> pushq %rax; swapgs": _APART,
    "nmi_on_stack.S:102/46: pushq %r14; movq %cr2,%r12 -> movq %cr2,%r12; pushq %r14": _APART,
    "nmi_on_stack.S:108: movq %r12,%cr2; popq %r14 -> popq %r14; movq %r12,%cr2": _APART,
    "nmi_on_stack.S:116/62: popq %rax; swapgs -> swapgs; popq %rax": _APART,
    "nmi_on_stack.S:131: pushq %rdx; leaq nmi_repeat(%rip),%rax -> leaq nmi_repeat(%rip),%rax; pushq %rdx": _APART,
    "nmi_on_stack.S:140: jb nmi_not_repeating; leaq nmi_repeat_end(%rip),%rax -> "
    "leaq nmi_repeat_end(%rip),%rax; jb nmi_not_repeating": _DEAD_RAX,
    "nmi_on_stack.S:147: jne nmi_nested; leaq 56(%rsp),%rax -> leaq 56(%rsp),%rax; jne nmi_nested": _DEAD_RAX,
    "nmi_on_stack.S:166: movq %rax,-down(%rsp); movq $__KERNEL_CS,8-down(%rsp) -> "
    "movq $__KERNEL_CS,8-down(%rsp); movq %rax,-down(%rsp)": _APART,
    "nmi_on_stack.S:167: movq $__KERNEL_CS,8-down(%rsp); movq $FLAGS_AT_REPEAT,16-down(%rsp) -> "
    "movq $FLAGS_AT_REPEAT,16-down(%rsp); movq $__KERNEL_CS,8-down(%rsp)": _APART,
    "nmi_on_stack.S:168: movq $FLAGS_AT_REPEAT,16-down(%rsp); leaq -88(%rsp),%rax -> "
    "leaq -88(%rsp),%rax; movq $FLAGS_AT_REPEAT,16-down(%rsp)": _APART,
    "nmi_on_stack.S:170: movq %rax,24-down(%rsp); movq $__KERNEL_SS,32-down(%rsp) -> "
    "movq $__KERNEL_SS,32-down(%rsp); movq %rax,24-down(%rsp)": _APART,
    "nmi_on_stack.S:204/46: pushq %r14; movl $MSR_GS_BASE,%ecx -> movl $MSR_GS_BASE,%ecx; pushq %r14": _GIVEN_BACK,
    "nmi_on_stack.S:224: movl %eax,%ebx; movl %edx,%r13d -> movl %edx,%r13d; movl %eax,%ebx": _GIVEN_BACK,
    "nmi_on_stack.S:225: movl %edx,%r13d; movl cpu_base(%rip),%eax -> "
    "movl cpu_base(%rip),%eax; movl %edx,%r13d": _GIVEN_BACK,
    "nmi_on_stack.S:226: movl cpu_base(%rip),%eax; movl cpu_base+4(%rip),%edx -> "
    "movl cpu_base+4(%rip),%edx; movl cpu_base(%rip),%eax": _GIVEN_BACK,
    "nmi_on_stack.S:228: wrmsr; movq %cr2,%r12 -> movq %cr2,%r12; wrmsr": _GIVEN_BACK,
    "nmi_on_stack.S:236: movq %r12,%cr2; movl $MSR_GS_BASE,%ecx -> movl $MSR_GS_BASE,%ecx; movq %r12,%cr2": _GIVEN_BACK,
    "nmi_on_stack.S:244: movl $MSR_GS_BASE,%ecx; movl %ebx,%eax -> movl %ebx,%eax; movl $MSR_GS_BASE,%ecx": _GIVEN_BACK,
    "nmi_on_stack.S:245: movl %ebx,%eax; movl %r13d,%edx -> movl %r13d,%edx; movl %ebx,%eax": _GIVEN_BACK,
    "nmi_on_stack.S:247: wrmsr; popq %r14 -> popq %r14; wrmsr": _GIVEN_BACK,
    "nmi_on_stack.S:252/62: popq %rax; std -> std; popq %rax": _GIVEN_BACK,
    "nmi_on_stack.S:117: swapgs; pushq %rax -> pushq %rax; swapgs": _APART,
    "nmi_on_stack.S:209: movq %rax,%cr3; movl $MSR_GS_BASE,%ecx -> movl $MSR_GS_BASE,%ecx; movq %rax,%cr3": _GIVEN_BACK,
    "nmi_on_stack.S:247: wrmsr; movq %r14,%cr3 -> movq %r14,%cr3; wrmsr": _GIVEN_BACK,
    "nmi_on_stack.S:204/46: pushq %r14; xorl %ebx,%ebx -> xorl %ebx,%ebx; pushq %r14": _GIVEN_BACK,
    "nmi_on_stack.S:212: xorl %ebx,%ebx; movl $MSR_GS_BASE,%ecx -> "
    "movl $MSR_GS_BASE,%ecx; xorl %ebx,%ebx": "0 either way",
    "nmi_on_stack.S:220: swapgs; incl %ebx -> incl %ebx; swapgs": _GIVEN_BACK,
    "nmi_on_stack.S:74: testb $3,8(%rsp) -> testb $11,8(%rsp)": (
        "bit 3 is clear in the kernel's CS, and bits 0 and 1 are set in the user's"
    ),
    "nmi_on_stack.S:116/50: popq %r14 -> popq %rbx": (
        "the C code keeps r14, nothing else writes it on this way, and rbx is popped three instructions on"
    ),
    "nmi_on_stack.S:252/50: popq %r14 -> popq %rbx": (
        "as from user mode: r14 is for CR3, which this build does not switch, and rbx is popped three instructions on"
    ),
    "nmi_on_stack.S:138: leaq nmi_repeat(%rip),%rax -> leaq nmi_take_frame(%rip),%rax": (
        "from nmi_take_frame to nmi_repeat NMIs are blocked: none finds this RIP in its frame"
    ),
    "nmi_on_stack.S:143: jb nmi_nested_out -> jbe nmi_nested_out": (
        "at nmi_repeat_end, too, the C code is still to be run"
    ),
    "nmi_on_stack.S:148: leaq 56(%rsp),%rax -> leaq 64(%rsp),%rax": _BOUND,
    "nmi_on_stack.S:148: leaq 56(%rsp),%rax -> leaq 48(%rsp),%rax": _BOUND,
    "nmi_on_stack.S:150: ja nmi_outermost -> jae nmi_outermost": _BOUND,
    "nmi_on_stack.S:151: subq $NMI_STACK_SIZE,%rax -> subq $NMI_STACK_SIZE+1,%rax": _BOUND,
    "nmi_on_stack.S:151: subq $NMI_STACK_SIZE,%rax -> subq $NMI_STACK_SIZE+8,%rax": _BOUND,
    "nmi_on_stack.S:153: jb nmi_outermost -> jbe nmi_outermost": _BOUND,
    "nmi_on_stack.S:155: testb $4,33(%rsp) -> testb $5,33(%rsp)": "SYSCALL clears TF as it clears DF",
    "nmi_on_stack.S:167: movq $__KERNEL_CS,8-down(%rsp) -> nothing": _ONE_CS,
    "nmi_on_stack.S:167: movq $__KERNEL_CS,8-down(%rsp) -> movq $__KERNEL_CS,8-down+8(%rsp)": (
        f"{_ONE_CS}; the next instruction writes RFLAGS"
    ),
    "nmi_on_stack.S:168: movq $FLAGS_AT_REPEAT,16-down(%rsp) -> movq $FLAGS_AT_REPEAT+1,16-down(%rsp)": (
        "nobody reads CF from nmi_repeat on"
    ),
    "nmi_on_stack.S:171: movq $__KERNEL_SS,32-down(%rsp) -> nothing": (
        "the slot has the SS of what the outermost NMI interrupted: that will do for CPL 0, and no 64-bit code can tell"
    ),
    "nmi_on_stack.S:168: movq $FLAGS_AT_REPEAT,16-down(%rsp) -> movq $FLAGS_AT_REPEAT+8,16-down(%rsp)": (
        "bit 3 of RFLAGS stays 0, whatever IRET pops"
    ),
    "nmi_on_stack.S:173: popq %rdx -> popq %rax": "nothing has written rdx since it was pushed, and rax is popped next",
    "nmi_on_stack.S:179: popq %rdx -> popq %rax": "nothing has written rdx since it was pushed, and rax is popped next",
    "nmi_on_stack.S:192: movq $1,80(%rsp) -> movq $2,80(%rsp)": "the word is only ever compared with 0",
    "nmi_on_stack.S:192: movq $1,80(%rsp) -> movq $9,80(%rsp)": "the word is only ever compared with 0",
}

#: What no search decides, and says so: neither proved nor refuted.
UNDECIDED: dict[str, str] = {
    "nmi_on_stack.S:224: movl %eax,%ebx -> movl %eax,%ecx": (
        "the number of the model-specific register is half a GS base, which may be any"
    ),
}
