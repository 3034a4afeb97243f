"""Section bytes and label addresses against GNU as and ld."""

from __future__ import annotations

import random
import re
from pathlib import Path

import gnu_reference as gnu
import pytest

from verifier.asm import Program, assemble_text
from verifier.asm.directives import DIRECTIVES
from verifier.errors import AsmError

TEXTS = sorted((Path(__file__).parent / "accepted").glob("*.s"))


def check(text: str, folder: Path, externals: dict[str, int] | None = None) -> None:
    program = assemble_text(text, externals=externals or {})
    linked = gnu.link(text, program, folder, externals)
    symbols = linked.symbols
    assert {s.name: s.data.hex() for s in program.sections} == {
        s.name: linked.contents[s.name].hex() for s in program.sections
    }
    mine = {name: s.value for name, s in program.symbols.items() if not name.startswith(".L")}
    assert {n: hex(mine.get(n, -1)) for n in symbols} == {n: hex(v) for n, v in symbols.items()}
    assert all(program.instructions[a].encoding == _at(program, a) for a in program.instructions)


def _at(program: Program, address: int) -> bytes:
    section = next(s for s in program.sections if s.address <= address < s.end and s.executable)
    offset = address - section.address
    return section.data[offset : offset + program.instructions[address].length]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_as_gnu(path: Path, tmp_path: Path) -> None:
    check(path.read_text(), tmp_path)


#: What both refuse.
REJECTED = (
    ".long 1 2", ".long (1", ".long 1)", ".long 08", ".long 0b2", ".long 1f", ".long 0xg", ".long 1b",
    ".quad a*2\na:", ".quad a+b\na:b:", "x: nop\n.set x,1", "x: nop\nx: ret", ".equiv x,1\n.equiv x,2",
    ".equ x 1",
    ".set x,x\n.long x", ".set x,y\n.set y,x\n.long x", ".if 1", ".endif", ".else",
    ".if 1\n.else\n.else\n.endif",
    ".if y\n.endif", ".if\n.endif", ".ifdef\n.endif", ".macro m\nnop", ".rept 2\nnop", ".rept x\n.endr",
    ".macro m a:req\n.endm\nm", ".macro m a\n.endm\nm 1,2", ".macro m a\n.endm\nm b=2", ".macro m a a\n.endm",
    ".macro m a:foo\n.endm", ".macro\n.endm", ".macro m\n.endm\n.macro m\n.endm",
    ".macro m a b\n.endm\nm a=1 2",
    ".align 3", "a: nop\n.org 4\n.org 2", ".ascii x", "foo %eax", "movl %rax,%eax", ".foo", "mov %eax %ebx",
    "mov %eax,", "mov (%rax,%ebx),%eax", "mov (%rax,%rbx,3),%eax", "mov 4(%rax,%rsp),%eax", "mov %xyz,%eax",
    "mov $,%eax", "mov (),%eax", "mov (%rax,%eax", "mov (%rax,),%eax", "mov (%rax,,1),%eax",
    "addq $0x80000000,%rax",
    "-: nop", "a b: nop", "%rax", "$1", ".err", '.error "x"', ".globl", "loop a\n.skip 200\na: nop",
    "mov %gs:%rax,%rbx", "mov %rax:8,%rbx", "mov a(%rip,%rax),%eax", ".rept -1\n.endr",
    "jmp*a\na:", "lock; inc(%rax)", ".if 1\n.endif x", ".if 1\n.else x\n.endif", ".ifdef x~\n.endif",
    "mov~ %rax,%rbx",
    "mov %rax,%rbx // c", ".long 1 /* a\n*/ + 2", ".1byte 1", ".ln 1", "mov $1==1,%eax", "mov $(2<=3),%eax",
    ".if 0\n.endifx\n.endif", ".if 0\n.elsewhere\n.endif", ".if 0\n.ifdef\n.endif\n.endif",
    ".if 0\n.ifc a\n.endif\n.endif", ".rept 2\n1: .rept 2\n.endr\n.endr",
    ".macro m a,,b\n.endm", ".macro m a,\n.endm", ".data: ret", ".set .text,5", 'c: .section c,"a"', ".code64 x",
    ".line 1 2",
    ".file", ".loc 1 2", "a: .loc 1 2", ".ident x", ".print x", ".att_syntax foo", ".list x", ".previous x",
    ".cfi_startproc", ".cfi_endproc", ".cfi_restore %rax", ".cfi_startproc\n.cfi_startproc",
    ".cfi_startproc\n.cfi_def_cfa %rsp\n.cfi_endproc", ".cfi_startproc\n.cfi_def_cfa_offset k\n.cfi_endproc\nk=1",
    ".cfi_startproc\n.cfi_undefined %foo\n.cfi_endproc", ".cfi_startproc\n.cfi_restore_state\n.cfi_endproc",
    ".cfi_startproc\n.cfi_personality 0\n.cfi_endproc", ".cfi_sections foo",
    '.ascii"9"', '.ifeqs a,a\n.endif', '.ifeqs "a" b,"a"\n.endif', ".ifc a\n.endif",
    "mov\f$1,%eax", ".byte\v1", "\u00a0nop", "mov $1,%eax\u2028", ".byte 1\x1c",
    ".equiv x,5\n.set x,5", ".equiv x,5\nx=6", "2147483648: nop", "jmp 2147483648f\n2147483648:",
    ".lcomm c,4,4", '.section .x,"ax",@progbits,4', '.section .x,"a",progbits',
)  # fmt: skip


#: What only ld refuses.
UNLINKED = (".hidden nobody", ".protected nobody", ".internal nobody", "a: mov a@PLT,%eax")


@pytest.mark.parametrize("text", UNLINKED)
def test_rejected_as_ld_does(text: str, tmp_path: Path) -> None:
    with pytest.raises(gnu.Refused):
        gnu.link(f"nop\n{text}\n", None, tmp_path)
    with pytest.raises(AsmError, match=r"'nobody' is not defined|'@PLT' is not supported"):
        assemble_text(f"nop\n{text}\n")


def test_every_directive_is_one_of_gnu_as(tmp_path: Path) -> None:
    names = sorted(DIRECTIVES.keys() - {".end", ".abort"})
    with pytest.raises(gnu.Refused) as refused:
        gnu.link("".join(f"{name} 1\n" for name in names), None, tmp_path)
    assert re.findall("unknown pseudo-op.*", str(refused.value)) == []


@pytest.mark.parametrize("text", REJECTED)
def test_rejected_as_gnu_does(text: str, tmp_path: Path) -> None:
    text = f"nop\n{text}\n"
    assert not gnu.accepts(text, tmp_path)
    with pytest.raises(AsmError) as caught:
        assemble_text(text)
    assert caught.value.span is not None


def random_program(seed: int) -> str:
    """Jumps of all reaches over data, alignment and each other; sizes near the limit of a short jump."""
    choose = random.Random(seed)
    labels = choose.randint(3, 40)
    lines = []
    for label in range(labels):
        lines.append(f"l{label}:" if choose.random() < 0.9 else f".globl l{label}\nl{label}:")
        for _ in range(choose.randint(0, 6)):
            target = min(labels - 1, max(0, label + choose.randint(-4, 5)))
            lines.append(
                choose.choice(
                    (
                        f"jmp l{target}",
                        f"j{choose.choice(('e', 'ne', 'a', 's'))} l{target}+{choose.randint(0, 3)}",
                        f"jmp {choose.randint(1, 3)}f",
                        f".p2align {choose.randint(0, 6)}",
                        f".balign {1 << choose.randint(0, 6)},,{choose.randint(1, 20)}",
                        f".skip {choose.randint(0, 60)}",
                        f".skip {choose.randint(100, 130)}",
                        f"call l{target}",
                        f"mov $l{target}-l{min(label, target)},%eax",
                        f".long l{target}-., l{target}-l0",
                        f"{choose.randint(1, 3)}: nop",
                    )
                )
            )
    return "\n".join([*lines, "1:2:3: ret", ""])


@pytest.mark.parametrize("seed", range(40))
def test_random_layout(seed: int, tmp_path: Path) -> None:
    check(random_program(seed), tmp_path)
