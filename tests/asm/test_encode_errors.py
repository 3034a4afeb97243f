"""What the encoder refuses: what GNU as refuses too, and what it takes for something else than it says."""

from __future__ import annotations

import pytest
from encode_lines import read_line, run_as

from verifier.asm.encode import EncodeError, mnemonics

#: Refused by GNU as too: the line and a part of our message.
BAD = (
    ("frobnicate %rax", "unknown mnemonic"),
    ("movz %rax, %rbx", "unknown mnemonic"),
    ("movq %eax, %rbx", "mov"),
    ("movl $1, %rax", "takes no 64-bit register '%rax'"),
    ("movb %ax, %bl", "16-bit register '%ax'"),
    ("mov %eax, %rbx", "operand size mismatch"),
    ("add %al, %bx", "operand size mismatch"),
    ("mov (%rax), (%rbx)", "these two memory operands"),
    ("add (%rax), (%rbx)", "these two memory operands"),
    ("mov %rax", "wrong number of operands: 'mov' takes 2, not 1"),
    ("ret $1, $2", "wrong number of operands"),
    ("iretq $8", "wrong number of operands"),
    ("add $1", "wrong number of operands"),
    ("push %cs", "push"),
    ("push %ds", "push"),
    ("pop %ss", "pop"),
    ("pop %cs", "pop"),
    ("push %eax", "32-bit register '%eax'"),
    ("pushl %eax", "64-bit mode"),
    ("pushl $1", "64-bit mode"),
    ("popl (%rax)", "64-bit mode"),
    ("pushfl", "64-bit mode"),
    ("popfl", "64-bit mode"),
    ("pusha", "64-bit mode"),
    ("popa", "64-bit mode"),
    ("into", "64-bit mode"),
    ("daa", "64-bit mode"),
    ("aam", "64-bit mode"),
    ("bound %eax, (%rax)", "64-bit mode"),
    ("lds (%rax), %eax", "64-bit mode"),
    ("jcxz start", "64-bit mode"),
    ("retl", "64-bit mode"),
    ("add $0x80000000, %rax", "immediate 0x80000000 is out of range"),
    ("add $0xffffffff, %rax", "out of range"),
    ("movq $0x123456789a, (%rax)", "out of range"),
    ("push $0x80000000", "out of range"),
    ("push $0xffffffff", "out of range"),
    ("shl $256, %eax", "out of range"),
    ("shl $-129, %eax", "out of range"),
    ("int $256", "out of range"),
    ("ret $65536", "out of range"),
    ("bt $256, %eax", "out of range"),
    ("movabs $1, %eax", "movabs"),
    ("movabs $1, (%rax)", "movabs"),
    ("movabs %rbx, 0x1234", "movabs"),
    ("mov 0x1122334455667788, %rbx", "signed 32-bit displacement"),
    ("mov 0x80000000(%rax), %eax", "signed 32-bit displacement"),
    ("mov -0x80000001(%rax), %eax", "signed 32-bit displacement"),
    ("mov (%rax,%rsp), %rax", "'%rsp' cannot be an index"),
    ("mov (%rax,%rbx,3), %rax", "scale factor 3"),
    ("mov (%eax,%rbx), %rax", "different widths"),
    ("mov (%ax), %eax", "cannot address memory"),
    ("mov (%al), %eax", "cannot address memory"),
    ("mov (%gs), %eax", "cannot address memory"),
    ("mov (%rip,%rax), %rax", "no index"),
    ("mov (%rax,%rip), %rax", "'%rip' cannot be an index"),
    ("mov (,%rip,1), %rax", "'%rip' cannot be an index"),
    ("mov (%dx), %ax", "cannot address memory"),
    ("mov (), %ax", "needs an address"),
    ("mov %ah, (%r8)", "'%ah' cannot stand in an instruction with REX"),
    ("mov %ah, %sil", "with REX"),
    ("movzbq %ah, %rax", "with REX"),
    ("mov %foo, %rax", "bad register name"),
    ("mov %rax, %xyz:(%rax)", "no segment register"),
    ("mov %eax, %cr3", "mov"),
    ("movl %cr3, %eax", "mov"),
    ("mov %rax, $1", "no immediate operand there"),
    ("mov %gs, %fs", "mov"),
    ("mov %cr3, (%rax)", "mov"),
    ("mov $1, %gs", "mov"),
    ("lea %rax, %rbx", "takes no register '%rax' there"),
    ("lea (%rax), %al", "8-bit register"),
    ("imul %bl, %cl", "operand size"),
    ("bt %al, %bl", "8-bit register"),
    ("shl %dl, %eax", "shl"),
    ("setne %eax", "32-bit register"),
    ("cmovne %al, %bl", "8-bit register"),
    ("movzbl %eax, %ebx", "32-bit register"),
    ("in %dx, %rax", "64-bit register"),
    ("xchg $1, %eax", "no immediate operand there"),
    ("bswap %ax", "16-bit register"),
    ("cmpxchg16b %rax", "cmpxchg16b"),
    ("call *%eax", "32-bit register"),
    ("ljmp *%rax", "ljmp"),
    ("nopw", "wrong number of operands"),
    ("lock add %eax, %ebx", "cannot be locked"),
    ("lock mov %eax, (%rax)", "cannot be locked"),
    ("lock cmp %eax, (%rax)", "cannot be locked"),
    ("lock lock add %eax, (%rax)", "cannot follow"),
    ("rep rep movsb", "cannot follow"),
    ("lock rep movsb", "cannot be locked"),
    ("rep add %eax, %eax", "cannot be repeated"),
    ("notrack ret", "not supported"),
    ("data16 nopw (%rax)", "not supported"),
    ("cs nopw %es:(%rbp)", "two segment prefixes"),
    ("bnd lret", "not supported"),
    ("addr32 lock nop", "unknown mnemonic"),
)

#: Taken by GNU as, refused here: the bytes are not what the line says, or CPUs differ on what they do.
STRICTER = (
    ("mov %eax, %cs", "mov"),
    ("retw", "CPUs differ"),
    ("callw *%ax", "CPUs differ"),
    ("jmp %rax", "written with '*'"),
    ("jmp (%rax)", "written with '*'"),
    ("ljmp (%rax)", "'*'"),
    ("add $0x10000, %ax", "out of range"),
    ("movl $0x1ffffffff, %eax", "out of range"),
    ("addb $256, (%rax)", "out of range"),
    ("mov 0x1122334455667788, %rax", "signed 32-bit displacement"),
    ("mov $0xffffffff, (%rax)", "ambiguous operand size"),
    ("mov %cr1, %rax", "bad register name"),
    ("movsb %gs:(%rsi), (%rdi)", "movsb"),
    ("gs movl (%rax), %eax", "prefix 'gs' is not supported"),
)


def test_gnu_as_refuses_the_bad_lines() -> None:
    errors, _, _ = run_as([line for line, _ in BAD])
    assert [BAD[n][0] for n in range(len(BAD)) if n not in errors] == []


def test_gnu_as_takes_the_lines_that_only_we_refuse() -> None:
    errors, _, _ = run_as([line for line, _ in STRICTER])
    assert errors == {}


@pytest.mark.parametrize(("line", "message"), [*BAD, *STRICTER])
def test_refused(line: str, message: str) -> None:
    read = read_line(line)
    with pytest.raises(EncodeError) as error:
        read.match()
    assert message in error.value.message


#: What entry code is made of, and the ordinary integer instructions around it.
REQUIRED = """
    mov push pop jmp xor swapgs cmp jne jnz je jz ja jae jb jbe jc jnc jg jge jl jle jo jno js jns jp
    jnp add sub call test and lea cld std cli sti iretq iretl iretw iret ret retq lret lretq shr shl sal
    sar wrmsr rdmsr or bt bts btr btc pushf pushfq popf popfq xchg inc dec wrgsbase rdgsbase wrfsbase
    rdfsbase lsl lar verr verw lfence mfence sfence ud2 endbr64 nop nopw nopl pause movsb movsw movsl
    movsq stosb stosq lodsb lodsl cmpsb cmpsq scasb scasw insb outsl adc sbb neg not rol ror rcl rcr
    shld shrd mul imul div idiv movzx movsx movzbl movzwl movsbl movswl movslq movsxd cmove cmovnel sete
    setnz bswap bsf bsr tzcnt lzcnt popcnt cmpxchg cmpxchg8b cmpxchg16b xadd stc clc cmc sahf lahf stac
    clac cbw cwde cdqe cwd cdq cqo cbtw cwtl cltq cwtd cltd cqto leave leaveq int int3 hlt syscall
    sysret sysretq sysretl sysenter sysexit sysexitq ljmp lcall cpuid rdtsc rdtscp invlpg lgdt lidt sgdt
    sidt lldt ltr str sldt smsw lmsw clts wbinvd monitor mwait in out inb outl xlat andn blsr blsi
    blsmsk movnti prefetchnta prefetcht0 prefetchw enter movabs movabsq movq movl movw movb addq subl
    cmpb testl callq jmpq jrcxz loop
"""


def test_no_mnemonic_is_lost() -> None:
    assert set(REQUIRED.split()) - mnemonics() == set()
