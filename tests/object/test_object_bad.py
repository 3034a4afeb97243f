"""Files that are not what they should be: one message that helps, exit code 2, nothing guessed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from object_build import assembled, listed, run
from object_surgery import with_contents, with_header, with_relocation, with_section, with_symbol

from verifier.cli import main

CODE = """
	.globl nmi, helper
	.type nmi, @function
nmi:
	cld
	push %rax
	call helper
	mov count(%rip), %rax
	incq %gs:taken
	pop %rax
	iretq
	.size nmi, .-nmi
	.data
	.globl count
count:	.quad 0
"""
SPEC = """
format: 1
program: {{object: {files}{program}}}
machine:
  stacks: {{nmi_ist: {{size: 4096}}}}
  idt: {{nmi: {{entry: nmi, gate: interrupt, stack: nmi_ist}}}}
  percpu: {{taken: {{size: 8}}}}
{calls}
environment: {{interrupted: [kernel], events: {{nmi: 1}}}}
properties: {{home: {{that: restored(rip)}}}}
"""
CALLS = "calls: {helper: {}}"
Damage = Callable[[bytes], bytes]


def judged(
    folder: Path, capsys: pytest.CaptureFixture[str], *files: Path, calls: str = CALLS, program: str = ""
) -> str:
    """What is said of files; the exit code must be 2."""
    (folder / "pyproject.toml").touch()
    names = ", ".join(f.name for f in files)
    (folder / "a.yaml").write_text(SPEC.format(files=f"[{names}]", calls=calls, program=program))
    code = main(["prove", str(folder / "a.yaml"), "-q"])
    said = capsys.readouterr()
    assert (code, said.out) == (2, ""), said
    assert "Traceback" not in said.err
    return said.err


def test_what_is_damaged_below_is_proved_without_the_damage(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    path = assembled(CODE, tmp_path)
    for file in (path, listed(path)):
        data = "" if file is path else "\n  data: {count: {size: 8}}"
        text = SPEC.format(files=file.name, calls=CALLS, program="").replace("\n" + CALLS, f"{data}\n{CALLS}")
        (tmp_path / "a.yaml").write_text(text)
        assert main(["prove", str(tmp_path / "a.yaml"), "-q"]) == 0


DAMAGES: list[tuple[str, Damage, str]] = [
    ("empty", lambda d: b"", "a.o is no object file"),
    ("text", lambda d: CODE.encode(), "a.o is no object file, and no listing of one.*program.source"),
    ("archive", lambda d: b"!<arch>\n" + d, "a.o is an archive of objects.*ar x"),
    ("bzImage", lambda d: b"MZ" + d, "a.o is a PE file.*vmlinux"),
    ("bitcode", lambda d: b"BC\xc0\xde" + d, "intermediate code"),
    ("gzip", lambda d: b"\x1f\x8b" + d, "compressed.*unpack it"),
    ("header cut off", lambda d: d[:30], "a.o is cut off: its header"),
    ("half of it", lambda d: d[: len(d) // 2], "a.o is cut off: its section headers"),
    ("32 bits", lambda d: with_header(d, "class", 1), "code for x86-64, 32 bits"),
    ("big-endian", lambda d: with_header(d, "data", 2), "big-endian"),
    ("AArch64", lambda d: with_header(d, "machine", 183), "code for AArch64.*x86-64 is read"),
    ("BPF", lambda d: with_header(d, "machine", 247), "code for BPF"),
    ("core dump", lambda d: with_header(d, "type", 4), "a core dump"),
    ("no section headers", lambda d: with_header(d, "shoff", 0), "has no section headers"),
    ("section headers of another size", lambda d: with_header(d, "shentsize", 40), "headers have 40 bytes"),
    ("too many sections", lambda d: with_header(d, "shnum", 0xFEFF), "20,000"),
    ("section headers beyond the end", lambda d: with_header(d, "shoff", 1 << 62), "section headers ends after"),
    ("no names of sections", lambda d: with_header(d, "shstrndx", 0), "its sections have no names"),
    ("a name outside", lambda d: with_section(d, ".text", "name", 1 << 20), "a name has no end"),
    ("a section beyond the end", lambda d: with_section(d, ".text", "size", 1 << 20), "its section .text ends after"),
    ("a section of 2^60 bytes", lambda d: with_section(d, ".text", "size", 1 << 60), "128 MB of memory"),
    ("2^60 zeros", lambda d: with_section(with_section(d, ".bss", "type", 8), ".bss", "size", 1 << 60), "128 MB"),
    ("an alignment of 3", lambda d: with_section(d, ".text", "align", 3), "aligns its section .text to 0x3"),
    ("an alignment of 2^40", lambda d: with_section(d, ".text", "align", 1 << 40), "aligns its section .text"),
    ("compressed code", lambda d: with_section(d, ".text", "flags", 0x806), "a compressed section.* .text"),
    ("no code", lambda d: with_section(d, ".text", "flags", 2), "a.o has no code"),
    ("no symbol table", lambda d: with_section(d, ".symtab", "type", 1), "no symbol table: it is stripped"),
    ("symbols without names", lambda d: with_section(d, ".symtab", "link", 99), "its symbols have no names"),
    ("symbols named by zeros", lambda d: with_section(d, ".strtab", "type", 8), "section .strtab has no contents"),
    ("a name that breaks lines", lambda d: d.replace(b"\0taken\0", b"\0ta\nen\0"), "'ta\ufffden' is not defined"),
    ("half a symbol", lambda d: with_section(d, ".symtab", "size", 100), ".symtab ends within an entry"),
    ("a symbol with a name outside", lambda d: with_symbol(d, "nmi", name_at=1 << 30), "a name has no end"),
    ("a common symbol", lambda d: with_symbol(d, "count", section=0xFFF2), "the place of 'count' to the linker"),
    ("a symbol of a section beyond", lambda d: with_symbol(d, "nmi", section=0xFFFF), "more sections than symbols"),
    ("an entry that is gone", lambda d: with_symbol(d, "nmi", section=0), "the label 'nmi' does not exist"),
    ("relocations for nothing", lambda d: with_section(d, ".rela.text", "info", 77), "a section that is not there.*77"),
    ("relocations by nothing", lambda d: with_section(d, ".rela.text", "link", 1), "by another symbol table"),
    ("relocations without addends", lambda d: with_section(d, ".rela.text", "type", 9), "without addends"),
    ("relocations stripped", lambda d: with_section(d, ".rela.text", "type", 1), "its relocations are gone"),
    ("half a relocation", lambda d: with_section(d, ".rela.text", "size", 30), ".rela.text ends within an entry"),
    ("a relocation outside", lambda d: with_relocation(d, 0, offset=1 << 40), "a relocation outside of its section"),
    ("a relocation at the end", lambda d: with_relocation(d, 0, offset=0x1C), "a relocation outside of its section"),
    ("a relocation by no symbol", lambda d: with_relocation(d, 0, symbol=999), "by symbol number 999"),
    ("a relocation of no type", lambda d: with_relocation(d, 0, type=99), r"nmi\+0x2.*number 99 are not.*call"),
    ("thread-local data", lambda d: with_relocation(d, 1, type=23), "type R_X86_64_TPOFF32 are not supported"),
    ("a table that is not there", lambda d: with_relocation(d, 0, type=3), "R_X86_64_GOT32 are not supported"),
    ("no instruction", lambda d: with_contents(d, ".text", 0, b"\x06"), r"a.o\(nmi\): .*no instruction.*81000000: 06"),
    ("into itself", lambda d: with_contents(d, ".text", 0, b"\xeb\xff"), "middle of an instruction.*jmp.*has 2 bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), [d[1:] for d in DAMAGES], ids=[d[0] for d in DAMAGES])
def test_damaged_objects(damage: Damage, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = assembled(CODE, tmp_path)
    before = path.read_bytes()
    path.write_bytes(damage(before))
    assert path.read_bytes() != before
    said = judged(tmp_path, capsys, path)
    assert re.search(message, said, re.DOTALL), said
    assert said.count("error:") == 1
    assert len(said) < 1500


UNSUPPORTED = "\t.globl nmi\nnmi:\tcld\n\tjmp 1f\n\t{}\n1:\tcall helper\n\t{}\n\tiretq\n"


@pytest.mark.parametrize("options", [(), ("-g",)], ids=["bare", "dwarf"])
def test_what_is_not_supported_counts_where_control_comes(
    options: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not where none does; address, bytes, and the symbol or the line are told."""
    (tmp_path / "pyproject.toml").touch()
    path = assembled(UNSUPPORTED.format("vmovaps %ymm1, %ymm0", "incq %gs:taken"), tmp_path, options=options)
    (tmp_path / "a.yaml").write_text(SPEC.format(files=path.name, calls=CALLS, program=""))
    assert main(["prove", str(tmp_path / "a.yaml"), "-q"]) == 0
    capsys.readouterr()
    text = UNSUPPORTED.format("nop", "vmovaps %ymm1, %ymm0")
    said = judged(tmp_path, capsys, assembled(text, tmp_path, options=options))
    assert f"ffffffff81000009{' <nmi+0x9>' if options else ''}: c5 fc 28 c1  vmovaps %ymm1,%ymm0" in said
    assert said.startswith("a.s:6:1: error: " if options else "a.o(nmi+0x9): error: ")


TWO = "\t.globl nmi, helper\nnmi:\tcld\n\tincq %gs:taken\n\tcall helper\n\tiretq\n"
SEVERAL: list[tuple[str, list[str], str, str, str]] = [
    ("no contract", [TWO], "", "", r"nmi\+0xa.*the symbol 'helper' is not defined.*add 'helper: \{\}' to 'calls'"),
    ("called by nobody", [TWO], "calls: {helper: {}, helpr: {}}", "", "nothing in the program calls 'helpr'.*'helper'"),
    ("data that is called", [TWO, "\t.data\n\t.globl helper\nhelper: .quad 1\n"], CALLS, "", "'helper' is no code"),
    ("twice", [TWO, "\t.globl nmi\nnmi:\tret\n"], CALLS, "", "'nmi' is defined twice, the second time in b.o"),
    ("nobody's data", [TWO.replace("iretq", "incq other\n\tiretq")], CALLS, "", "'other' is not defined.*incq 0x0"),
    ("a weak symbol", [TWO.replace("iretq", ".weak w\n\tcall w\n\tiretq")], CALLS, "", "'w' is not defined.*call"),
    ("text too far up", [TWO], CALLS, ", text: 0xffffffffffff0000", "program.text must be in"),
    ("define", [TWO], CALLS, ", define: {a: 1}", "'define' has no meaning beside 'object'"),
    ("source as well", [TWO], CALLS, ", source: a.s", "either 'source' or 'object'"),
    ("no word", [TWO], CALLS, ", alternatives: any", "'original', or a list of feature numbers"),
    ("a feature beyond", [TWO], CALLS, ", alternatives: [5000]", "2047"),
    ("an entry size", [TWO], CALLS, ", alternatives_entry: 15", "no entries with 15 bytes are known.*12"),
    ("nothing to enter", [TWO], CALLS, ", entry: [nothing]", "no code has the symbol 'nothing'"),
]  # fmt: skip


@pytest.mark.parametrize("row", SEVERAL, ids=[s[0] for s in SEVERAL])
def test_what_does_not_fit(
    row: tuple[str, list[str], str, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, texts, calls, program, message = row
    files = [assembled(text, tmp_path, "ab"[n]) for n, text in enumerate(texts)]
    said = judged(tmp_path, capsys, *files, calls=calls, program=program)
    assert re.search(message, said, re.DOTALL), said


LINKED: list[tuple[str, tuple[str, ...], bool, str]] = [
    ("at user addresses", ("-Ttext=0x401000",), False, "section .text at 0x401000.*upper half"),
    ("beside an object", ("-Ttext=0xffffffff81000000",), True, "linked already: it goes with no other"),
]


@pytest.mark.parametrize(("options", "beside", "message"), [s[1:] for s in LINKED], ids=[s[0] for s in LINKED])
def test_executables_that_do_not_fit(
    options: tuple[str, ...], beside: bool, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = assembled(TWO, tmp_path)
    run("ld", "-e", "nmi", "--defsym=helper=0xffffffff81000000", "--defsym=taken=0", *options, "-o", "x", path.name,
        folder=tmp_path)  # fmt: skip
    said = judged(tmp_path, capsys, tmp_path / "x", *([path] if beside else []), calls="")
    assert re.search(message, said, re.DOTALL), said


def test_debug_information_without_the_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = assembled(CODE, tmp_path)
    run("objcopy", "--only-keep-debug", path.name, "x", folder=tmp_path)
    assert "has code whose bytes are not in it, .text" in judged(tmp_path, capsys, tmp_path / "x")


def test_sections_at_one_address(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assembled(CODE, tmp_path)
    given = ("-Ttext=0xffffffff81000000", "--defsym=helper=0xffffffff81000000", "--defsym=taken=0")
    run("ld", "-e", "nmi", *given, "-o", "x", "a.o", folder=tmp_path)
    (tmp_path / "x").write_bytes(with_section((tmp_path / "x").read_bytes(), ".data", "addr", 0xFFFF_FFFF_8100_0008))
    assert "has two sections at one address: .text and .data overlap" in judged(tmp_path, capsys, tmp_path / "x")


LISTINGS: list[tuple[str, str, str, str]] = [
    ("another machine", "elf64-x86-64", "elf64-littleaarch64", "a.lst:2:1: error: a listing of elf64-littleaarch64"),
    ("a line of something else", "<nmi>:", "<nmi>:\nmov a, b", "not a line that objdump -dr prints.*mov a, b"),
    ("code that is left out", "   1:\t50", "   9:\t50", "the code at 0x9 does not follow"),
    ("a label twice", "<nmi>:", "<nmi>:\n\n0000000000000000 <nmi>:", "a second label 'nmi'"),
    ("no section", "Disassembly of section .text:", "", "before any 'Disassembly"),
    ("no code", "", "", "lists no code"),
    ("no relocations", "\t\t\t.*?R_X86.*?\n", "", "nothing in the program calls.*a.lst has no relocations.*-dr"),
    ("a type of relocation", "R_X86_64_PLT32", "R_X86_64_PC99", "R_X86_64_PC99 are not supported"),
]


@pytest.mark.parametrize(("old", "new", "message"), [s[1:] for s in LISTINGS], ids=[s[0] for s in LISTINGS])
def test_damaged_listings(
    old: str, new: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = listed(assembled(CODE, tmp_path))
    text = path.read_text()
    damaged = re.sub(old, new, text) if old else text[: text.index("Disassembly")]
    assert damaged != text
    path.write_text(damaged)
    said = judged(tmp_path, capsys, path)
    assert re.search(message, said, re.DOTALL), said


@pytest.mark.parametrize("kind", ["object", "listing"])
def test_relocations_that_are_missing(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A call of the next instruction is none, in an object that has no relocations."""
    path = assembled("\t.globl nmi\nnmi:\tcall 1f\n\t1:iretq\n", tmp_path)
    said = judged(tmp_path, capsys, path if kind == "object" else listed(path), calls="")
    assert re.search("relocations are missing.*e8 00 00 00 00  call.*-dr", said, re.DOTALL), said
