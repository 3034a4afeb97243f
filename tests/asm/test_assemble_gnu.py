"""Section bytes and label addresses against GNU as and ld."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import gnu_reference as gnu
from verifier.asm import Program, assemble_text
from verifier.errors import AsmError

TEXTS = {
    "labels": "a: b:\n nop; c: ret\n1: jmp 1b; jmp 1f\n1: jmp a\n.Lx: jne .Lx\n",
    "comments": "nop # a; ret\n/* ret\nret */ nop; nop /* x */ ; nop\n  # '\n.ascii \"#;/*\"\nnop\n",
    "characters": "movb $'a,%al\nmovb $'b',%al\nmovb $'\\n',%al\n.byte 'a+1,';,'#,'\\\\\n",
    "numbers": ".quad 0x1F, 017, 0b101, 10, 0, 0xffffffffffffffff, -1, 0x8000000000000000\nnop\n",
    "precedence": ".long 1+2*3|4, 2+3&1, 7-1-1, 1<<2+1, 8>>1*2, 6!1, 3^1+1, ~0&7, -(1+2)*3, 5%3*2, 10-4/2\nnop\n",
    "comparison": ".long 5>3, 3>5, 1&&2, 0||0, 1==1, 1<>1, 1!=2, 1<2&&2<1, !0, !7, 1<=1, -1<0, -1>0\nnop\n",
    "division": ".long -7/2, -7%3, 7/-2, 7%-3, -1>>60, 1<<31\nnop\n",
    "set": ".set x,4\nx2=x+1\n mov x(%rsp),%rax\n.set x,300\n mov x(%rsp),%rax\n mov x2(%rsp),%rax\n.long x2\n",
    "set forward": "mov x(%rsp),%rax\n.long x\n.set x,1\n.long x\n.set x,2\n.long x\n",
    "set label": "a: nop\n.set b,a+1\n.long b-a\nc = . - a\n.long c\n.quad b\n",
    "differences": "mov (b-a)(%rsp),%rax\na: nop\nb: mov (b-a)(%rsp),%rax\n.long b-a, .-a\n.byte a-b\n",
    "difference over a jump": "a: jmp c\nb: mov (b-a)(%rsp),%rax\n.skip 100\nc: .byte b-a\n",
    "rip": "mov 4(%rip),%rax\nmov x(%rip),%rax\nlea x+4(%rip),%rsi\nmov x,%eax\n.set y,8\nmov y(%rip),%rax\nx: nop\n",
    "immediates": "cmpq $a,8(%rsp)\na: movq $a,%rax\nmovabs $a,%rax\npushq $a\nmovl $b-a,%eax\nb: nop\n",
    "memory": (
        "mov 8(%rax,%rbx,4),%rcx\nmov (,%rbx,8),%rcx\nmov 8(,%rbx),%ecx\nmov %gs:8,%rax\nmov %fs:(%rax),%al\n"
        "mov -8(%rbp),%rax\nmov (4+4)*2(%rsp),%rax\nmov 11*8(%rsp), %rdi\nmov ( %rax , %rbx , 2 ) , %cx\nmov 0x10,%eax\n"
        "movq %gs:0x10(,%rax,8), %rsp\nmov %rax, %gs : 8\n"
    ),
    "branches": "a: jmp *%rax\njmp *8(%rax)\njmp *a\ncall *a(%rip)\ncall a\ncall *%gs:8\nloop a\njrcxz a\njmp a@PLT\n",
    "prefixes": "lock incl (%rax)\nlock; incl (%rax)\nrep movsb\nrep; nop\nrepne scasb\nrep stosq\n",
    "global and weak": "a:\n.globl g\ng: nop\njmp g\n.weak w\nw: nop\njmp w\njmp a\n.globl h\njmp h\nh: ret\n",
    "data": (
        "nop\n.data\n.byte 1,2\n.word 3\n.value 4\n.short 5\n.hword 6\n.2byte 7\n.long 8\n.int 9\n.4byte 10\n.quad 11\n"
        '.8byte 12\n.ascii "a\\n\\t\\"\\\\\\101\\x41","b"\n.asciz "c","d"\n.string "e"\n.fill 3\n.fill 2,4,7\n.fill 1,8,-1\n'
        ".zero 5\n.skip 3,1\n.space 2\n.balign 16\n.byte 1\n.p2align 3\n.byte 2\n.align 8\n.byte 1\n.balign 8,7\n.org 200\n.byte 9\n"
    ),
    "sections": (
        'nop\na: call f\n.section .entry.text,"ax",@progbits\nf: ret\n.previous\njmp f\n.data\nd: .quad a, f, d\n'
        '.section .rodata\nr: .long r-., 1\n.pushsection .fixup,"ax"\nx: jmp a\n.popsection\n.long 3\n.bss\nz: .skip 100\n'
        '.text\nnop\n.section .data.hot,"aw"\n.long f - .\n.byte 1\n.balign 32\nq: .byte 2\n'
    ),
    "alignment": "nop\n.p2align 5\na: nop\n.p2align 4,,3\nb: ret\n.balign 8\nc: .skip 3\n.p2align 4\nd: nop\n.balign 16,0xcc\ne: ret\n",
    "nops": "".join(f".balign 16\n.skip {n}\nnop\n.balign 16\nl{n}: nop\n" for n in range(16)),
    "jump over alignment": "a: jmp b\n.skip 110\n.p2align 4\nb: jmp a\n.skip 100\n.p2align 5\njne a\njmp c\n.skip 127\nc: ret\n",
    "skip computed": "a: jmp c\nb: nop\n.skip -((d-c)-(b-a) > 0) * ((d-c)-(b-a)),0x90\nnop\nc: nop;nop;nop;nop;nop\nd: ret\n",
    "skip late": ".skip n\nnop\n.set n,5\n.fill b-a,2,3\na: ret\n jmp a\nb: nop\n",
    "org": "nop\n.org 16\na: ret\n.org a+20\nb: ret\n",
    "rept": ".rept 3\nnop\n.rept 2\nret\n.endr\n.endr\n.rept 0\nhlt\n.endr\n.irp r,rax,rbx,rcx\npush %\\r\n.endr\n.irpc c,012\n.byte \\c\n.endr\n",
    "macro": (
        ".macro m a, b=5, c:req\n.long \\a,\\b,\\c\n.endm\nm 1,,3\nm c=9 a=2\nm 1 2 3\nm (1+2), 4 , 5\n"
        '.macro s x\n.ascii "<\\x>"\n.endm\ns abc\ns "a b"\ns "x,y"\ns (a b)\n'
        ".macro v first rest:vararg\n.byte \\first\n.ifnb \\rest\nv \\rest\n.endif\n.endm\nv 1,2,3,4\n"
        ".macro l\n.Ll\\@: jmp .Ll\\@\nL\\@x: nop\n.endm\nl\nl\n"
        ".macro j x y\n.ascii \"\\x\\()\\y\"\nlab\\x\\()_z: nop\n.endm\nj 1 2\n"
        ".macro e n\n.if \\n==0\n.exitm\n.endif\n.byte \\n\ne \\n-1\n.endm\ne 4\n.purgem e\n.macro e\nhlt\n.endm\ne\nE\n"
    ),
    "macro arguments": (
        '.macro m a b c\n.ascii "[\\a][\\b][\\c]"\n.endm\nm a -b\nm b=3 a=1+ 2\nm x,,y\nm "x y" "q"\nm a+b , c -d\n'
        'm %rax %rbx\nm $1 $2\nm 1 + 2\nm (a) (b)\nm a * b\nm a.b c_d\nm 8(%rax)\nm [a b] c\nm "a\\"b"\nm a*b c*d\nm ~1 !2\n nop\n'
    ),
    "macro operand": '.macro mv s d\nmov \\s,\\d\n.endm\nmv "8(%rax,%rbx)" %rcx\nmv $1, %eax\nmv %gs:8 %rax\nmv -8(%rsp), %rdx\n',
    "if": (
        ".set x,3\n.if x==3\n.byte 1\n.else\n.byte 2\n.endif\n.if x>5\n.byte 3\n.elseif x>2\n.byte 4\n.elseif 1\n.byte 5\n"
        ".else\n.byte 6\n.endif\n.ifdef x\n.byte 7\n.endif\n.ifndef y\n.byte 8\n.endif\n.ifc a,a\n.byte 9\n.endif\n"
        ".ifnc a , b\n.byte 10\n.endif\n.ifb\n.byte 11\n.endif\n.ifnb z\n.byte 12\n.endif\n.ifeq 0\n.byte 13\n.endif\n"
        ".ifne 0\n.byte 14\n.if 1\n.byte 99\n.endif\n.else\n.byte 15\n.endif\n.ifgt 1\n.byte 16\n.endif\n.iflt 1\n.byte 17\n.endif\n"
        ".ifge 0\n.byte 18\n.endif\n.ifle 1\n.byte 19\n.endif\nnop\na: nop\n.if .-a==1\nret\n.endif\n.ifeqs \"a\",\"a\"\n.byte 20\n.endif\n"
        ".ifdef a\n.byte 21\n.endif\n.ifdef later\n.byte 22\n.endif\nlater: nop\n"
    ),
    "ignored": '.file "x.c"\n.ident "me"\n.type a,@function\na: .cfi_startproc\nnop\n.cfi_endproc\n.size a, .-a\n.code64\n.att_syntax\n',
    "common": "nop\n.lcomm c,24\n.lcomm d,4\nmov c,%eax\nmov d,%eax\n",
    "case": "MOV %RAX,%rbx\nNOP\n.BYTE 1\n.macro Foo\nhlt\n.endm\nfoo\n",
    "assign spaces": "a = 5\nb=6\n.long a,b\nnop\n. = . + 3\nret\n",
}  # fmt: skip


def check(text: str, folder: Path, externals: dict[str, int] | None = None) -> None:
    program = assemble_text(text, externals=externals or {})
    contents, symbols = gnu.link(text, program, folder, externals)
    assert {s.name: s.data.hex() for s in program.sections} == {n: d.hex() for n, d in contents.items()}
    mine = {name: s.value for name, s in program.symbols.items() if not name.startswith(".L")}
    assert {n: hex(mine.get(n, -1)) for n in symbols} == {n: hex(v) for n, v in symbols.items()}
    assert all(program.instructions[a].encoding == _at(program, a) for a in program.instructions)


def _at(program: Program, address: int) -> bytes:
    section = next(s for s in program.sections if s.address <= address < s.end and s.executable)
    offset = address - section.address
    return section.data[offset : offset + program.instructions[address].length]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_as_gnu(text: str, tmp_path: Path) -> None:
    check(text, tmp_path)


#: What both refuse.
REJECTED = (
    ".long 1 2", ".long (1", ".long 1)", ".long 08", ".long 0b2", ".long 1f", ".long 0xg", ".long 1b",
    ".quad a*2\na:", ".quad a+b\na:b:", "x: nop\n.set x,1", "x: nop\nx: ret", ".equiv x,1\n.equiv x,2", ".equ x 1",
    ".set x,x\n.long x", ".set x,y\n.set y,x\n.long x", ".if 1", ".endif", ".else", ".if 1\n.else\n.else\n.endif",
    ".if y\n.endif", ".if\n.endif", ".ifdef\n.endif", ".macro m\nnop", ".rept 2\nnop", ".rept x\n.endr",
    ".macro m a:req\n.endm\nm", ".macro m a\n.endm\nm 1,2", ".macro m a\n.endm\nm b=2", ".macro m a a\n.endm",
    ".macro m a:foo\n.endm", ".macro\n.endm", ".macro m\n.endm\n.macro m\n.endm", ".macro m a b\n.endm\nm a=1 2",
    ".align 3", "a: nop\n.org 4\n.org 2", ".ascii x", "foo %eax", "movl %rax,%eax", ".foo", "mov %eax %ebx",
    "mov %eax,", "mov (%rax,%ebx),%eax", "mov (%rax,%rbx,3),%eax", "mov 4(%rax,%rsp),%eax", "mov %xyz,%eax",
    "mov $,%eax", "mov (),%eax", "mov (%rax,%eax", "mov (%rax,),%eax", "mov (%rax,,1),%eax", "addq $0x80000000,%rax",
    "-: nop", "a b: nop", "%rax", "$1", ".err", '.error "x"', ".globl", "loop a\n.skip 200\na: nop",
    "mov %gs:%rax,%rbx", "mov %rax:8,%rbx", "mov a(%rip,%rax),%eax", ".rept -1\n.endr",
)  # fmt: skip


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


@pytest.mark.parametrize("seed", range(60))
def test_random_layout(seed: int, tmp_path: Path) -> None:
    check(random_program(seed), tmp_path)
