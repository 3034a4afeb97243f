"""What a `Program` carries besides bytes: places, texts, holes, diagnostics, sections, several files."""

from __future__ import annotations

import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from verifier.asm import Instruction, Mem, Program, Target, assemble, assemble_text
from verifier.asm.program import TEXT_BASE
from verifier.errors import AsmError

ASM = Path(__file__).parents[2] / "asm"


def only(text: str, **options: object) -> Instruction:
    (instruction,) = assemble_text(text, **options)  # type: ignore[arg-type]
    return instruction


@pytest.fixture(scope="module")
def sketch() -> Program:
    return assemble(
        [ASM / "nested_nmi_2010.s"],
        root=ASM,
        defines={"__percpu_seg": "gs", "__KERNEL_CS": 0x10},
        externals={"nmi_stack_nesting": 0, "nmi_stack_ptr": 8},
    )


def test_the_sketch_of_2010(sketch: Program) -> None:
    first, *_, last = sketch
    assert (first.text, first.span.where) == (
        "cmpb $0,%__percpu_seg:nmi_stack_nesting", "nested_nmi_2010.s:11:1",
    )  # fmt: skip
    assert first.operands[1] == Mem(None, None, 1, 0, 8, segment="gs")
    assert last.text == "jmp *(%rsp)"
    assert last.indirect
    assert [i.hole for i in sketch if i.hole] == ["regular_nmi_code"] * 2
    assert sketch.address_of("nmi_stack_ptr") == 8
    assert [d.span.line for d in sketch.diagnostics] == [45]
    assert "iretl" in sketch.diagnostics[0].message
    jumps = [i.operands[0] for i in sketch if i.condition == "ne"]
    assert [t.text for t in jumps if isinstance(t, Target)] == [
        "nmi_nested_corrupt_and_return", "is_unnested_nmi",
    ]  # fmt: skip


def test_the_sketch_has_the_bytes_gnu_as_gives_it(sketch: Program, tmp_path: Path) -> None:
    text = (ASM / "nested_nmi_2010.s").read_text()
    for old, new in (("__percpu_seg", "gs"), ("__KERNEL_CS", "0x10"), ("...\n", ".byte 0\n")):
        text = text.replace(old, new)
    (tmp_path / "a.s").write_text(text)
    externals = ["--defsym", "nmi_stack_nesting=0", "--defsym", "nmi_stack_ptr=8"]
    link = ["ld", "-Ttext", hex(TEXT_BASE), "-e", "0", *externals]
    for command in (
        ["as", "-o", "a.o", "a.s"],
        [*link, "-o", "a", "a.o"],
        ["objcopy", "-O", "binary", "-j", ".text", "a", "a.bin"],
    ):
        subprocess.run(command, cwd=tmp_path, check=True)
    assert sketch.sections[0].data == (tmp_path / "a.bin").read_bytes()


def test_instructions_stand_one_after_the_other(sketch: Program) -> None:
    instructions = list(sketch)
    assert instructions[0].address == TEXT_BASE
    assert all(a.next_address == b.address for a, b in pairwise(instructions))
    assert sketch.describe(instructions[1].address) == "nmi+0x9"


@pytest.mark.parametrize(
    ("text", "options", "shown", "column", "end"),
    [
        ("  nop  # comment\n", {}, "nop", 3, 6),
        ("a: b: ret ; \n", {}, "ret", 7, 10),
        ("lock; incl (%rax)\n", {}, "lock; incl (%rax)", 1, 5),
        ("mov $'a , %al # x\n", {}, "mov $'a , %al", 1, 14),
        ("push $K\n", {"defines": {"K": 16}}, "push $K", 1, 8),
        (" RET1\n", {"defines": {"RET1": "iretq"}}, "RET1", 2, 6),
        ("mov %rax, /* to */ %rbx\n", {}, "mov %rax, /* to */ %rbx", 1, 24),
        (".macro m r\n pop %\\r\n.endm\nm rax\n", {}, "pop %rax", 2, 9),
        ("#define M(r) pop %r\n M(rax)\n", {"name": "x.S", "root": ASM}, "M(rax)", 2, 8),
    ],
)
def test_text_and_columns(text: str, options: dict[str, object], shown: str, column: int, end: int) -> None:
    instruction = only(text, **options)
    assert (instruction.text, instruction.span.column, instruction.span.end) == (shown, column, end)


def test_statements_of_one_preprocessor_macro_show_their_own_text() -> None:
    program = assemble_text("#define M nop; ret\nM\n", "x.S", root=ASM)
    assert [i.text for i in program] == ["nop", "ret"]


def test_statements_of_a_line_share_its_text() -> None:
    """Thousands on a long line would fill memory else."""
    first, second = assemble_text("nop; ret\n")
    assert first.span.text is second.span.text


def test_macro_origin_is_the_call() -> None:
    instruction = only(".macro m\nnop\n.endm\n.macro n\nm\n.endm\nn\n")
    places = []
    span = instruction.span
    while span:
        places.append(span.line)
        span = span.origin  # type: ignore[assignment]
    assert places == [2, 5, 7]


@pytest.mark.parametrize(
    ("text", "holes"),
    [
        ("a: ...\nret\n", ["a"]),
        ("a:\n...\n\n# c\n...\n... # d\nret\n", ["a"]),
        ("a:\n...\nb: c:\n...\n", ["a", "c"]),
        ("a: nop\n1: ...\nret\n", ["a"]),
        ("a: nop\n.data\nb: .long 1\n.text\n...\n", ["a"]),
        ("a:\n.rept 3\n...\n.endr\nret\n", ["a"]),
    ],
)
def test_holes(text: str, holes: list[str]) -> None:
    found = [i for i in assemble_text(text) if i.hole]
    assert [(i.mnemonic, i.hole) for i in found] == [
        (kind, name) for name in holes for kind in ("hole_enter", "hole_body")
    ]
    assert all(i.encoding == b"\0" for i in found)


@pytest.mark.parametrize(("text", "told"), [
    ("iret", "iretq"), ("lret", "lretq"), ("sysret", "sysretq"), ("iretq", None), ("iretl", None),
    ("lretq", None),
])  # fmt: skip
def test_narrow_returns_are_told(text: str, told: str | None) -> None:
    diagnostics = assemble_text(f"{text}\n").diagnostics
    assert [d.hint is not None and told in d.hint for d in diagnostics if told] == [True] * bool(told)
    assert bool(diagnostics) == bool(told)


def test_sections_and_percpu() -> None:
    program = assemble_text(
        'nop\n.data\nd: .quad 1\n.section .data..percpu,"aw"\np: .quad 0\nq: .quad 0\n.bss\nb: .skip 8\n'
        '.section .entry.text,"ax"\ne: ret\n.section .note,""\n.long 1\n'
    )
    places = {s.name: (s.address, len(s.data), s.executable, s.writable) for s in program.sections}
    assert places == {
        ".text": (TEXT_BASE, 1, True, False),
        ".entry.text": (TEXT_BASE + 16, 1, True, False),
        ".data": (TEXT_BASE + 0x20_0000, 8, False, True),
        ".data..percpu": (0, 16, False, True),
        ".bss": (TEXT_BASE + 0x20_1000, 8, False, True),
    }
    assert program.address_of("q") == 8
    assert program.symbols["q"].section == ".data..percpu"


def test_symbol_attributes() -> None:
    program = assemble_text(
        ".globl f\n.type f,@function\nf: nop\nret\n.size f,.-f\n.set k,5\n.set g,f+1\n",
        externals={"x": -8 % 2**64},
    )
    f, k, g, x = (program.symbols[n] for n in ("f", "k", "g", "x"))
    assert (f.size, f.type, f.binding, f.section, f.defined_by_set) == (2, "func", "global", ".text", False)
    assert (k.value, k.section, k.defined_by_set) == (5, None, True)
    assert (g.value, g.section, g.defined_by_set) == (f.value + 1, ".text", True)
    assert (x.value, x.section, x.span) == (2**64 - 8, None, None)
    assert program.extent("f") == range(f.value, f.value + 2)


def test_a_definition_in_the_text_wins_over_an_external() -> None:
    program = assemble_text(".set x,1\npush $x\n", externals={"x": 7})
    assert next(iter(program)).encoding == b"\x6a\x01"


def test_files_have_their_own_local_labels_and_macros(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.s").write_text(f".macro m\nnop\n.endm\n{name}: 1: m\n.Lx: jmp 1b\njmp .Lx\n")
    program = assemble([tmp_path / "a.s", tmp_path / "b.s"], root=tmp_path)
    assert program.files == ("a.s", "b.s")
    targets = [t.address for i in program for t in i.operands if isinstance(t, Target)]
    a, b = program.address_of("a"), program.address_of("b")
    assert a is not None
    assert b is not None
    assert targets == [a, a + 1, b, b + 1]
    assert {".Lx (a.s)", ".Lx (b.s)"} <= set(program.symbols)


def test_defines_reach_both_kinds_of_file(tmp_path: Path) -> None:
    (tmp_path / "a.s").write_text('iret\nmovq %PER:x,%rax\n.ascii "iret" # iret\n')
    (tmp_path / "b.S").write_text("#if N == 3\niret\n#endif\npush $N\n")
    program = assemble(
        [tmp_path / "a.s", tmp_path / "b.S"],
        root=tmp_path,
        defines={"iret": "iretq", "PER": "gs", "N": 3},
        externals={"x": 8},
    )
    assert [i.width for i in program if i.mnemonic == "iret"] == [64, 64]
    assert b"iret" in program.sections[0].data
    assert not program.diagnostics


def test_includes(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "h.h").write_text('#ifndef H\n#define H 5\n#include "deep.h"\n#endif\n')
    (tmp_path / "sub" / "deep.h").write_text(".macro five\npush $H\n.endm\n")
    (tmp_path / "a.S").write_text('#include "sub/h.h"\n#include "sub/h.h"\nfive\n.include "sub/tail.s"\n')
    (tmp_path / "sub" / "tail.s").write_text("tail: five\n")
    program = assemble([tmp_path / "a.S"], root=tmp_path)
    assert [i.encoding for i in program] == [b"\x6a\x05"] * 2
    assert [i.span.file for i in program] == ["sub/deep.h"] * 2
    assert set(program.files) == {"a.S", "sub/h.h", "sub/deep.h", "sub/tail.s"}


#: Preprocessor texts whose result is compared with the C preprocessor's.
CPP = (
    "#define A 3\n.byte A, B+A\nB=2\n#define C A\n.byte C\nnop\n",
    "#define F(x,y) .byte x, y\nF(1,2)\nF((1),3)\nF(1 , (2+3))\nF (4,5)\nnop\n",
    "#define CAT(a,b) a##b\n.byte CAT(1,2)\nCAT(no,p)\n#define S(x) .ascii #x\nS(a b  \"c\\n\")\n",
    "#define X(a...) .byte a\nX(1,2,3)\n#define Y(a,...) .byte a,__VA_ARGS__\nY(1,2,3)\nnop\n",
    "#define E()  nop\nE()\nE( )\n#define P(a,b) a b\nP(nop,)\nP(,nop)\n",
    "#if 1+1==2 && defined(__x86_64__) && !defined Y\nnop\n#else\nret\n#endif\n",
    "#if 0\nfoo\n#elif 1\nnop\n#elif 1\nret\n#else\nhlt\n#endif\n",
    "#if 0\n#if 1\nret\n#else\nhlt\n#endif\n#error no\n#else\nnop\n#endif\n",
    "#if -1 > 0u\nnop\n#else\nret\n#endif\n#if 2 || 1/0\nnop\n#endif\n#if 0 && 1/0\n#else\nnop\n#endif\n",
    "#if 'a' == 97 && 0x10 == 16 && 010 == 8 && 1UL << 40\nnop\n#endif\n",
    "#if ~0 == -1 && -7/2 == -3 && -7%2 == -1 && -1 >> 1 == -1\nnop\n#endif\n",
    "#if (1 << 2 + 1) == 8 && (1 | 2 == 2) && (3 & 2 ^ 1 | 8) && (1 ? 2 : 0)\nnop\n#endif\n",
    "#if 0xffffffffffffffff == -1 && 5 - 3 - 2 == 0 && !1 + 1\nnop\n#endif\n",
    "nop /* a\nb */ ; ret // c ; hlt\n#define L nop; \\\n ret; \\\n hlt\nL\nnop \\\n; ret\n",
    '#define Q "//" \n.ascii Q\nnop\n.ascii "/* x"\n.ascii "a//b" // c\n',
    "# don't\nnop\n# just a comment\n#!x\n#\n.byte 'a\n#define a 3\n.byte 'a'\n.byte a\n",
    ".macro m a\n.byte \\a\n.endm\n#define V 4\nm V\nm V+1\nnop\n#undef V\nV=6\nm V\n",
    "#define M(x) #x\n.ascii M(1+1)\n.ascii M(\"q\\n\")\nnop\n",
    "#define N(x) .byte x##1, x\n#define ab 4\n#define ab1 5\nN(ab)\nnop\n",
    "#define A B\n#define B A\nA=1\n.byte A\nnop\n#define OBJ (1)\n.byte OBJ\n",
    "#define D(x) D2(x, x)\n#define D2(x,y) .byte x,y\n#define D3 9\nD(D3)\nnop\n",
)  # fmt: skip


@pytest.mark.skipif(shutil.which("cpp") is None, reason="no C preprocessor here")
@pytest.mark.parametrize("text", CPP)
def test_preprocessor_agrees_with_cpp(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.S").write_text(text)
    command = ["cpp", "-x", "assembler-with-cpp", "-w", "a.S"]
    expected = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    mine = assemble([tmp_path / "a.S"], root=tmp_path)
    assert mine.sections[0].data == assemble_text(expected).sections[0].data


def test_root_must_exist(tmp_path: Path) -> None:
    with pytest.raises(AsmError, match="cannot use the folder"):
        assemble([tmp_path / "a.s"], root=tmp_path / "none")
