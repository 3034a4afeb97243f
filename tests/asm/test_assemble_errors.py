"""Bad text: one error with the place and a hint that helps; and bounds on what a text can cost."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from verifier.asm import assemble, assemble_text
from verifier.asm.budget import FILE_BYTES
from verifier.errors import AsmError

#: text, line, column, part of the message, part of the hint
ERRORS = (
    ("nop\n  movvq %rax,%rbx\n", 2, 3, "unknown mnemonic 'movvq'", "movq"),
    ("nop\nx: .golbl a\n", 2, 4, "unknown directive '.golbl'", ".globl"),
    ("mov %rax, 8(%rsp), %rbx\n", 1, 1, "mov", None),
    ("movl %rax,%ebx\n", 1, 6, "rax", None),
    ("addq $1,%eex\n", 1, 9, "eex", None),
    ("nop\njmp start\nstrat: nop\n", 2, 5, "'start' is not defined", "strat"),
    ("call missing\n", 1, 6, "'missing' is not defined", "'calls'"),
    ("movq missing(%rip),%rax\n", 1, 6, "'missing' is not defined", "'calls'"),
    ("nop\n.quad missing+4\n", 2, 7, "'missing' is not defined", "'calls'"),
    ("x: nop\n x: ret\n", 2, 2, "'x' is already defined", "<text>:1:1"),
    ("jmp 1f\n1: nop\njmp 2f\n", 3, 5, "no label '2:' follows", None),
    ("nop\njmp 1b\n", 2, 5, "no label '1:' before", None),
    ("nop\n.byte 1, 256\n", 2, 10, "does not fit", None),
    ("nop\n.long a\na: nop\n", 2, 7, "does not fit", None),
    ("cmpq $x,(%rax)\n.set x,0x123456789\n", 1, 6, "0x123456789", None),
    ("mov $1,%eax ; movl $x,%eax\nx: ret\n", 1, 20, "0xffffffff8100000a", None),
    ("addl $0x1ffffffff,%eax\n", 1, 6, "0x1ffffffff", None),
    ("nop\n.quad a*2\na:\n", 2, 8, "'*' has no meaning", "subtracted"),
    ("nop\n.if later\n.endif\nlater: nop\n", 2, 5, "not known yet", None),
    (".if 1\nnop\n", 1, 1, "never closed", ".endif"),
    ("nop\n.macro m\nret\n", 2, 1, ".endm", None),
    ("nop\n .rept 2\nret\n", 2, 2, ".endr", None),
    ("nop\n/* ret\n", 2, 1, "comment never ends", "*/"),
    ('nop\n.ascii "ab\n', 2, 8, "string never ends", '"'),
    ("call 8(%rax)\n", 1, 6, "indirect", "*8(%rax)"),
    ("mov x@GOTPCREL(%rip),%rax\n", 1, 5, "@GOTPCREL", None),
    (".code32\nnop\n", 1, 1, ".code32 is not supported", "64-bit"),
    (".intel_syntax noprefix\nnop\n", 1, 1, ".intel_syntax is not supported", "AT&T"),
    (".data\nnop\n", 2, 1, "not executable", "ax"),
    ("lock\nx: incl (%rax)\n", 1, 1, "prefix", None),
    ("...\nnop\n", 1, 1, "no label before", "label"),
    ("a: nop\n...\nnop\n...\n", 4, 1, "second hole", "<text>:2:1"),
    (".data\na: ...\n.text\nnop\n", 2, 1, "not executable", None),
    (".macro m x\n mov \\x,%rax\n.endm\nm %exx\n", 2, 6, "exx", None),
    ("nop\n.skip a-b\na: nop\nb: nop\n", 2, 1, "negative", None),
    ("nop\n.foo\n", 2, 1, "unknown directive", None),
    ("nop\n popfl\n", 2, 2, "'popfl' does not exist in 64-bit mode", None),
    ("nop\nretw\n", 2, 1, "CPUs differ", "'ret'"),
    ("nop\nk == 3\n", 2, 1, "'==' is not supported", "'='"),
    ("nop\n x: .octa 3\n", 2, 2, ".octa is not supported", None),
    ("nop\n.p2align 3,\n", 2, 10, "a value is missing", None),
    ("nop\n= 3\n", 2, 1, "neither", None),
    ("nop\n.include \"x\"\n", 2, 1, "folder", None),
    ("nop\n.incbin \"x\"\n", 2, 1, "not supported", None),
    (".set a,b\n.set b,a\nnop\n.long a\n", 1, 8, "defined by itself", None),
)  # fmt: skip

CPP_ERRORS = (
    ("# if will be hard\nnop\n", 1, 1, "not an expression", ".s files are not preprocessed"),
    ("nop\n# else it waits\n", 2, 1, "#else without #if", ".s files"),
    ("#if 1\n# else it waits\n#endif\nnop\n", 2, 7, "text after #else", ".s files"),
    ("#if 1\nnop\n", 1, 1, "never closed", None),
    ("#if 1/0\n#endif\nnop\n", 1, 1, "division by zero", None),
    ("#include <linux/linkage.h>\nnop\n", 1, 10, "not supported", "defines"),
    ('#include "nothing.h"\nnop\n', 1, 10, "cannot open nothing.h", None),
    ("nop\n  #error stop here\n", 2, 3, "stop here", None),
    ("#define A 1\n#define A 2\nnop\n", 2, 9, "already defined", "#undef"),
    ("#define F(x) x\nF(1,2)\n", 2, 1, "takes 1 arguments, not 2", None),
    ("#define F(x) x\nnop; F(1\n", 2, 1, "not closed", None),
    ("#define OP movvq\n nop; OP %rax,%rbx\n", 2, 7, "movvq", None),
)

BOMBS = (
    ".rept 1000\n.rept 1000\n.rept 1000\nnop\n.endr\n.endr\n.endr\n",
    ".set n,3000\n.rept n\n.rept n\nnop\n.endr\n.endr\n",
    ".rept 100000\n.rept 100000\n.endr\n.endr\nnop\n",
    ".irp x," + ",".join("1" * 500) + "\n.irpc y," + "2" * 500 + "\nnop\n.endr\n.endr\n",
    ".rept 1<<62\nnop\n.endr\n",
    ".macro m\nm\n.endm\nm\n",
    ".macro m x\nm \\x\\x\n.endm\nm 1\n",
    "nop\n.skip 1<<40\n",
    "nop\n.skip n\n.set n,1<<40\n",
    "nop\n.org 1<<50\n",
    ".fill 1<<30,8,1\n",
    ".rept 10000\n.skip 16000000\n.endr\n",
    ".skip 16000000,0x90\n",
    ".long " + "(" * 5000 + "1" + ")" * 5000 + "\n",
    ".long " + "-" * 10000 + "1\n",
    ".long " + "1||1&&1==1+1|1*(" * 300 + "1" + ")" * 300 + "\n",
    "".join(f".set x{i},x{i + 1}+x{i + 1}\n" for i in range(400)) + ".set x400,1\nnop\n.long x0\n",
    ".set x,a\na:\n" + ".set x,x-b+x\n" * 100 + "b: nop\n",
    ".long " + "9" * 16000 + "\n",
    ".if 1\n" * 1000,
    "nop " + "x" * 100_000 + "\n",
    ".irp x," + ",".join("1" * 1000) + '\n.ascii "' + "\\x" * 4000 + '"\n.endr\n',
    ("nop;" * 4000 + "\n") * 30,
    "start:\n" + ".p2align 12\nnop\n" * 9000,
)  # fmt: skip
CPP_BOMBS = (
    "#define A0 x\n" + "".join(f"#define A{i + 1} A{i} A{i}\n" for i in range(60)) + "A60\n",
    "#define s(x) #x\n#define d(x) s(x) s(x)\n" + "d(" * 30 + '"\\""' + ")" * 30 + "\nnop\n",
    "#define f(x) x\n" + "f(" * 3000 + "1" + ")" * 3000 + "\nnop\n",
    "#if " + "(" * 5000 + "1" + ")" * 5000 + "\n#endif\nnop\n",
    "#if " + "!" * 5000 + "1\n#endif\nnop\n",
    "#if 1\n" * 1000,
    "#define A \\\n" * 10000,
)


def fails(text: str, name: str = "<text>", root: Path | None = None) -> AsmError:
    with pytest.raises(AsmError) as caught:
        assemble_text(text, name, root=root)
    assert caught.value.render()
    return caught.value


@pytest.mark.parametrize(("text", "line", "column", "message", "hint"), ERRORS)
def test_error(text: str, line: int, column: int, message: str, hint: str | None) -> None:
    _compare(fails(text), line, column, message, hint)


@pytest.mark.parametrize(("text", "line", "column", "message", "hint"), CPP_ERRORS)
def test_preprocessor_error(
    text: str, line: int, column: int, message: str, hint: str | None, tmp_path: Path
) -> None:
    _compare(fails(text, "x.S", tmp_path), line, column, message, hint)


def _compare(error: AsmError, line: int, column: int, message: str, hint: str | None) -> None:
    assert message in error.message
    assert error.span is not None
    assert (error.span.line, error.span.column) == (line, column), error.render()
    assert hint is None or hint in (error.hint or ""), error.render()


@pytest.mark.parametrize("text", BOMBS, ids=range(len(BOMBS)))
def test_bomb_is_refused_soon(text: str) -> None:
    start = time.process_time()
    fails(text)
    assert time.process_time() - start < 10


@pytest.mark.parametrize("text", CPP_BOMBS, ids=range(len(CPP_BOMBS)))
def test_preprocessor_bomb_is_refused_soon(text: str, tmp_path: Path) -> None:
    start = time.process_time()
    fails(text, "x.S", tmp_path)
    assert time.process_time() - start < 10


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", ".byte 1\n", ".set a,1\n"])
def test_text_without_instructions(text: str) -> None:
    assert "no instruction" in fails(text).message


def test_an_error_in_a_macro_shows_the_call() -> None:
    error = fails(".macro m x\n mov \\x,%rax\n.endm\n.rept 1\n m %exx\n.endr\n")
    assert "expanded from <text>:5:2: m %exx" in error.render()
    assert "expanded from <text>:4:1" in error.render()


def test_a_macro_bomb_with_many_lines_is_refused() -> None:
    doubling = "".join(f".macro m{i}\nm{i + 1}\nm{i + 1}\n.endm\n" for i in range(30))
    assert "lines" in fails(doubling + ".macro m30\nnop\n.endm\nm0\n").message


# --- files ---


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "secret.s").write_text("nop\n")
    (root / "sub" / "part.s").write_text("part: nop\n")
    return root


def file_fails(root: Path, name: str, text: str | bytes | None = None) -> AsmError:
    if text is not None:
        (root / name).write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(AsmError) as caught:
        assemble([root / name], root=root)
    assert caught.value.render()
    return caught.value


@pytest.mark.parametrize("path", ["../secret.s", "sub/../../secret.s", "link.s", "folder/secret.s"])
@pytest.mark.parametrize(("directive", "suffix"), [(".include", "s"), ("#include", "S")])
def test_nothing_outside_the_tree_is_opened(tree: Path, path: str, directive: str, suffix: str) -> None:
    (tree / "link.s").symlink_to(tree.parent / "secret.s")
    (tree / "folder").symlink_to(tree.parent)
    error = file_fails(tree, f"main.{suffix}", f'nop\n{directive} "{path}"\n')
    assert "outside the folder tree" in error.message
    assert error.span is not None
    assert error.span.line == 2
    assert "outside the folder tree" in file_fails(tree, path).message


def test_absolute_include_is_outside(tree: Path) -> None:
    assert "outside" in file_fails(tree, "a.s", 'nop\n.include "/etc/passwd"\n').message


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nul.s", b"nop\n\0\n", "nul.s:2:1: error: a NUL byte"),
        ("latin.s", b"nop\n# \xff\xfe\n", "latin.s:2:3: error: not UTF-8"),
        ("large.s", b"#" * (FILE_BYTES + 1), "larger than 8 MB"),
        ("missing.s", None, "cannot open"),
        ("sub", None, "not a regular file"),
        ("self.s", b'nop\n.include "self.s"\n', "includes itself"),
        ("self.S", b'nop\n#include "self.S"\n', "includes itself"),
        ("long.s", b'nop\n.include "' + b"x" * 5000 + b'"\n', "cannot open"),
    ],
)
def test_bad_file(tree: Path, name: str, content: bytes | None, message: str) -> None:
    assert message in str(file_fails(tree, name, content))


@pytest.mark.parametrize(("directive", "suffix"), [(".include", "s"), ("#include", "S")])
def test_includes_that_double_are_refused(tree: Path, directive: str, suffix: str) -> None:
    for i in range(30):
        (tree / f"f{i}.{suffix}").write_text(f'{directive} "f{i + 1}.{suffix}"\n' * 2)
    (tree / f"f30.{suffix}").write_text("nop\n")
    assert "more than 2,000 files are included" in file_fails(tree, f"f0.{suffix}").message


@pytest.mark.parametrize(
    "content",
    [b"nop;" * 12_500_000, b"#" * 50_000_000, b"/*" * 25_000_000, b'"' * 50_000_000, b"(" * 50_000_000],
    ids=["statements", "comment", "open comment", "quotes", "parentheses"],
)
def test_fifty_megabytes_in_a_line_are_not_read(tree: Path, content: bytes) -> None:
    assert "larger than 8 MB" in file_fails(tree, "a.s", content).message
    (tree / "b.s").write_text('nop\n.include "a.s"\n')
    assert "b.s:2:1: error: a.s is larger than 8 MB" in str(file_fails(tree, "b.s"))


@pytest.mark.parametrize("suffix", ["s", "S"])
def test_pipes_and_devices_are_not_opened(tree: Path, suffix: str) -> None:
    os.mkfifo(tree / "pipe.s")
    (tree / "zero.s").symlink_to("/dev/zero")
    for name, message in (("pipe.s", "not a regular file"), ("zero.s", "outside the folder tree")):
        assert message in file_fails(tree, f"a.{suffix}", f'nop\n.include "{name}"\n').message
        assert ".incbin is not supported" in file_fails(tree, f"a.{suffix}", f'nop\n.incbin "{name}"\n').message


def test_include_cycle_over_two_files(tree: Path) -> None:
    (tree / "sub" / "b.s").write_text('.include "../a.s"\n')
    error = file_fails(tree, "a.s", 'nop\n.include "sub/b.s"\n')
    assert "includes itself" in error.message
    assert "expanded from a.s:2:1" in error.render()


def test_a_symbol_in_two_files_is_a_duplicate(tree: Path) -> None:
    (tree / "a.s").write_text("x: nop\n")
    (tree / "b.s").write_text("nop\nx: nop\n")
    with pytest.raises(AsmError) as caught:
        assemble([tree / "a.s", tree / "b.s"], root=tree)
    assert "already defined" in caught.value.message
    assert "a.s:1:1" in (caught.value.hint or "")
    assert caught.value.span is not None
    assert caught.value.span.where == "b.s:2:1"
