"""Operands in canonical shape where a decoder tells something else, or the text leaves something out."""

from __future__ import annotations

import pytest
from encode_lines import read_line

from verifier.asm.encode import EncodeError
from verifier.asm.program import Imm, Mem, Operand, Reg

AX, EAX, RAX = Reg("rax", 16), Reg("rax", 32), Reg("rax", 64)


@pytest.mark.parametrize(
    ("text", "width", "operands"),
    [
        ("shl %eax", 32, (Imm(1, 8), EAX)),
        ("imul $-1, %eax", 32, (Imm(0xFFFFFFFF, 32), EAX, EAX)),
        ("push $-1", 64, (Imm(0xFFFFFFFFFFFFFFFF, 64),)),
        ("pushw $-1", 16, (Imm(0xFFFF, 16),)),
        ("movq $-2, 8(%rax)", 64, (Imm(0xFFFFFFFFFFFFFFFE, 64), Mem("rax", None, 1, 8, 64))),
        ("int $0x80", 0, (Imm(0x80, 8),)),
        ("lsl %eax, %eax", 32, (AX, EAX)),
        ("lsl %rax, %rax", 64, (AX, RAX)),
        ("lar %ax, %rax", 64, (AX, RAX)),
        ("verw %ax", 16, (AX,)),
        ("mov %ds, %rax", 32, (Reg("ds", 16), EAX)),
        ("mov %rax, %ds", 16, (AX, Reg("ds", 16))),
        ("mov %ds, (%rax)", 16, (Reg("ds", 16), Mem("rax", None, 1, 0, 16))),
        ("push %gs", 64, (Reg("gs", 16),)),
        ("sldt %rax", 32, (EAX,)),
        ("mov %ah, %al", 8, (Reg("rax", 8, high=True), Reg("rax", 8))),
        ("movzbl %al, %eax", 32, (Reg("rax", 8), EAX)),
        ("prefetcht0 (%rax)", 0, (Mem("rax", None, 1, 0, 0),)),
        ("lea (%rax), %rax", 64, (Mem("rax", None, 1, 0, 0), RAX)),
        ("mov %ss:(%rax), %rax", 64, (Mem("rax", None, 1, 0, 64, "ss"), RAX)),
        ("mov %ss:(%rbp), %rax", 64, (Mem("rbp", None, 1, 0, 64), RAX)),
        ("notrack jmp *(%rbp)", 64, (Mem("rbp", None, 1, 0, 64, "ds"),)),
        ("mov 0xffffffff(%eax), %eax", 32, (Mem("rax", None, 1, -1, 32, address_width=32), EAX)),
        ("movabs %gs:0x10, %rax", 64, (Mem(None, None, 1, 16, 64, "gs"), RAX)),
        ("in (%dx), %al", 8, (Reg("rdx", 16), Reg("rax", 8))),
        ("rep stosl %eax, %es:(%rdi)", 32, ()),
        ("nopl 8(%rax)", 0, ()),
        ("xchg %ax, %ax", 0, ()),
    ],
)
def test_canonical_operands(text: str, width: int, operands: tuple[Operand, ...]) -> None:
    line = read_line(text)
    form = line.match()
    assert form.width == width
    assert form.operands(line.resolved(0, form.sizes[0], {})) == operands


def test_an_unknown_value_is_no_zero() -> None:
    form = read_line("mov forward(%rax), %eax").match()
    with pytest.raises(EncodeError, match="not known"):
        form.operands((None, None))
    with pytest.raises(EncodeError, match="not known"):
        form.encode((None, None), 0, form.sizes[0])
