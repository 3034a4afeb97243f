"""One line per instruction form, AT&T text: what the lifter is compared on.

Registers that a memory operand names are made to point into the arena by the tests; the others are random.
"""

from __future__ import annotations

from verifier.asm.program import CONDITIONS

#: suffix -> three register names of that width; never the ones that memory operands below are based on.
REGISTERS = {
    "b": ("al", "dl", "r9b"),
    "w": ("ax", "dx", "r9w"),
    "l": ("eax", "edx", "r9d"),
    "q": ("rax", "rdx", "r9"),
}
MEMORY = "0x18(%rbx,%r12,4)"


def _sized(text: str, suffixes: str = "bwlq") -> list[str]:
    """``S`` is the suffix, ``A``, ``D`` and ``R`` are registers, ``M`` is memory."""
    forms = []
    for suffix in suffixes:
        a, d, r = REGISTERS[suffix]
        table = {"S": suffix, "A": f"%{a}", "D": f"%{d}", "R": f"%{r}", "M": MEMORY}
        for line in text.split(";"):
            forms.append("".join(table.get(c, c) for c in line))
    return forms


def _each(names: str, text: str, suffixes: str = "bwlq") -> list[str]:
    return [f"{n}{rest}" for n in names.split() for rest in _sized(text, suffixes)]


ARITHMETIC = [
    *_each("add adc sub sbb cmp", "S $0x5a, A;S $-3, M;S D, R;S A, M;S M, A;S A, A"),
    *_each("inc dec neg", "S R;S M"),
    "addb %ah, %dl",
    "subb %dh, %ah",
    "addb $1, %bh",
    "lock addl $1, 8(%rbx)",
    "addq $0x12345678, %rax",
]
LOGIC = [
    *_each("and or xor", "S $0x5a, A;S $-3, M;S D, R;S A, M;S M, A;S A, A"),
    *_each("test", "S $0x5a, A;S $-3, M;S D, R;S A, M"),
    *_each("not", "S R;S M"),
]
MOVES = [
    *_each("mov", "S $0x5a, A;S $-3, M;S D, R;S A, M;S M, A"),
    "movabsq $0x123456789abcdef0, %r9",
    "movb %ah, %dl",
    "movb %dl, %ah",
    "movb %ah, %bh",
    "movq 0x10000000(%rip), %rax",
    "addl %eax, 0x10000000(%rip)",
    "movl 4(%ebx), %eax",
    "movl 4(%ebx,%r12d,2), %eax",
    "movq 0x20000400, %rax",
    "movq -8(%rbp), %rax",
    "movq 8(%rsp), %rax",
    "movq (%rsp,%r12,8), %rax",
    "movq %fs:8(%rbx), %rax",
    "movq %rax, %gs:8(%rbx)",
    "movl %fs:4(%ebx), %eax",
    "movabsq 0x20000400, %rax",
    *(f"movz{s}{d} %{r}, %r9{e}" for s, r in (("b", "al"), ("w", "ax")) for d, e in (("l", "d"), ("q", ""))),
    *(f"movs{s}{d} %{r}, %r9{e}" for s, r in (("b", "al"), ("w", "ax")) for d, e in (("l", "d"), ("q", ""))),
    "movzbw 1(%rbx), %ax",
    "movsbw %dh, %ax",
    "movzbl %ah, %edx",
    "movslq %eax, %r9",
    "movslq 1(%rbx), %rax",
    *_each("lea", "S M, A;S -8(%rax,%rdx,8), R;S 0x10(%rip), A", "wlq"),
    "leaq 4(%eax,%edx,2), %rax",
    "leal %fs:4(%rax), %edx",
    "leaq (,%rax,4), %rdx",
    *_each("xchg", "S D, R;S A, M;S D, A"),
    "xchgb %al, %ah",
    "xchgq %rbx, (%rbx)",
    *(f"cmov{c}{s}" for c in CONDITIONS for s in ("w %ax, %dx", "l %eax, %edx", "q 8(%rbx), %rdx")),
    *(f"set{c} {o}" for c in CONDITIONS for o in ("%al", "%dh", "8(%rbx)")),
    "bswapl %eax",
    "bswapq %r9",
    *_each("movbe", "S M, A;S A, M", "wlq"),
    *_each("movnti", "S A, M", "lq"),
    "cbtw",
    "cwtl",
    "cltq",
    "cwtd",
    "cltd",
    "cqto",
    "xlat",
]
SHIFTS = [
    *_each("shl shr sar rol ror rcl rcr", "S A;S $3, R;S $1, M;S $0, A;S %cl, A;S %cl, M;S $0x1f, D"),
    *_each("shl shr sar rol ror rcl rcr", "S $9, A", "b"),
    *_each("shl shr sar rol ror rcl rcr", "S $17, A", "w"),
    *_each("shl shr sar rol ror rcl rcr", "S $63, A", "q"),
    "shlb %cl, %ah",
    "shll %cl, %ecx",
    *_each("shld shrd", "S $3, A, R;S $1, A, M;S $0, A, D;S %cl, A, R;S %cl, A, M", "wlq"),
    *_each("shlx shrx sarx", " A, D, R;  A, M, D", "lq"),
    *_each("rorx", " $5, A, D", "lq"),
]
BITS = [
    *_each("bt bts btr btc", "S $5, A;S $0x1e, M;S D, A;S D, M", "wlq"),
    "btl %edx, 4(%ebx)",
    *_each("bsf bsr tzcnt lzcnt popcnt", "S A, R;S M, D", "wlq"),
    *_each("andn", " A, D, R", "lq"),
    *_each("bextr bzhi", " A, D, R; A, M, D", "lq"),
    *_each("blsr blsi blsmsk", " A, R;  M, A", "lq"),
]
MULTIPLY = [
    *_each("mul imul", "S R;S M;S A"),
    *_each("imul", "S A, R;S $0x5a, A, R;S $-3, M, A;S $0x123, A, A", "wlq"),
    *_each("div idiv", "S R;S M"),
    "divb %ah",
    *_each("mulx", " A, D, R; M, A, R; A, R, R", "lq"),
]
ATOMICS = [
    *_each("xadd cmpxchg", "S D, R;S R, M;S D, A;S A, A"),
    "xaddb %al, %ah",
    "lock cmpxchgl %edx, 8(%rbx)",
    "cmpxchg8b 8(%rbp)",
    "cmpxchg16b (%rsi)",
]
STACK = [
    "pushq %rax",
    "pushw %ax",
    "pushq %rsp",
    "pushw %sp",
    "pushq $-5",
    "pushq $0x12345",
    "pushw $0x1234",
    "pushq (%rsp)",
    "pushq 8(%rsp)",
    "pushq 8(%rbx)",
    "pushw 8(%rbx)",
    "popq %rax",
    "popw %ax",
    "popq %rsp",
    "popw %sp",
    "popq (%rsp)",
    "popw (%rsp)",
    "popq -16(%rsp,%r12,8)",
    "popq 8(%rbx)",
    "pushfq",
    "pushfw",
    "popfq",
    "popfw",
    "leave",
    "enter $0x20, $0",
]
FLAGS = ["stc", "clc", "cmc", "std", "cld", "lahf", "sahf"]
NOTHING = ["nop", "nopl 8(%rax)", "pause", "endbr64", "lfence", "mfence", "sfence", "prefetchnta (%rax)"]
NOTHING += ["clflush (%rbx)", "prefetchw 8(%rbx)"]
_STRING = [
    *_each("movs stos lods cmps scas", "S"),
    "movsl %fs:(%rsi), %es:(%rdi)",
    "movsl (%esi), %es:(%edi)",
]
STRINGS = [
    *_STRING,
    *(f"rep {s}" for s in _STRING if s[:4] in ("movs", "stos", "lods")),
    *(f"{r} {s}" for r in ("repe", "repne") for s in _STRING if s[:4] in ("cmps", "scas")),
]
CONTROL = [
    "jmp .+0x40",
    "jmp .+0x1000",
    *(f"j{c} .+0x40" for c in CONDITIONS),
    "jne .+0x200",
    "jrcxz .+0x20",
    "jecxz .+0x20",
    "loop .+0x20",
    "loope .+0x20",
    "loopne .+0x20",
    "call .+0x40",
    "call .+5",
    "ret",
    "ret $0x18",
    "jmp *%rax",
    "call *%rax",
    "call *%rsp",
    "jmp *(%rsp)",
    "jmp *8(%rbx)",
    "call *8(%rsp)",
    "call *8(%rbx)",
]
RING0 = ["cli", "sti", "movq %cr2, %rax", "movq %rax, %cr2", "movl %ss, %eax"]

#: What runs on to the next instruction, and may run at CPL 3.
STRAIGHT = {
    "arithmetic": ARITHMETIC,
    "logic": LOGIC,
    "moves": MOVES,
    "shifts": SHIFTS,
    "bits": BITS,
    "multiply": MULTIPLY,
    "atomics": ATOMICS,
    "stack": STACK,
    "flags": FLAGS,
    "nothing": NOTHING,
    "strings": STRINGS,
}
FAMILIES = {**STRAIGHT, "control": CONTROL, "ring0": RING0}
ALL = [form for family in FAMILIES.values() for form in family]
