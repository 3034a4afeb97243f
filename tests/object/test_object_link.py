"""Objects linked by their symbols: as GNU ld does it, with relocations of every kind."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from object_build import assembled, difference, read, run

from verifier.asm.outside import Stub
from verifier.errors import AsmError
from verifier.object.relocate import RULES

HIGH = 0xFFFF_FFFF_8100_0000
#: Two objects that need each other, in one section, with every way to name a place.
FIRST = """
	.globl start, table, weak_one
	.weak weak_one
start:	call there
	jc there
	call local
	mov $there, %rax
	movabs $there, %rax
	lea table(%rip), %rax
	mov table+8, %ecx
	mov count(%rip), %rcx
	cmpq $1, count+4(%rip)
	push $table
	mov %gs:taken, %rax
	incl %gs:taken+4(%rip)
	jne weak_one
	jmp *table(,%rax,8)
local:	ret
weak_one: nop
	ret
	.section .rodata
table:	.quad there, start, local, .text
	.long there - ., count - .
	.section .data..percpu, "aw"
	.globl taken
taken:	.quad 0
	.text
	.byte 0x90
"""
SECOND = """
	.globl there, count, weak_one
local:	ud2
there:	call start
	call local
	call weak_one
	movl $taken, %eax
	ret
weak_one: hlt
	ret
	.data
	.long 1
count:	.quad there
	.section .entry.text, "ax"
	.globl entry
entry:	jmp start
"""
SCRIPT = """
SECTIONS {{
  .text {text:#x} : SUBALIGN(1) {{ *(.text) }}
  .entry.text {entry:#x} : {{ *(.entry.text) }}
  .rodata {rodata:#x} : {{ *(.rodata) }}
  .data {data:#x} : {{ *(.data) }}
  .data..percpu 0 : {{ *(.data..percpu) }}
  /DISCARD/ : {{ *(.note*) }}
}}
"""


def test_two_objects_as_ld_links_them(tmp_path: Path) -> None:
    """Every byte of every section, every symbol, every instruction."""
    files = [assembled(FIRST, tmp_path, "first"), assembled(SECOND, tmp_path, "second")]
    ours = read(*files, entries=["start", "entry"])
    at = {s.name.lstrip(".").split(".")[0]: s.address for s in ours.sections}
    (tmp_path / "script").write_text(SCRIPT.format(**at))
    names = [f.name for f in files]
    run("ld", "-T", "script", "-e", "start", "--no-warn-rwx-segments", "-o", "linked", *names, folder=tmp_path)
    theirs = read(tmp_path / "linked", entries=["start", "entry"])
    contents = [[(s.name, s.address, s.data) for s in program.sections] for program in (ours, theirs)]
    assert contents[0] == contents[1]
    for name in ("start", "there", "table", "count", "taken", "weak_one", "entry"):
        assert ours.symbols[name].value == theirs.symbols[name].value
    assert set(ours.instructions) == set(theirs.instructions)
    assert len(ours.instructions) > 20
    assert [difference(i, theirs.instructions[i.address]) for i in ours] == [""] * len(ours.instructions)
    assert ours.instructions[ours.symbols["weak_one"].value].mnemonic == "hlt"


#: A relocation's type: what makes GNU as write one.
KINDS = {
    "R_X86_64_64": ".quad far + 3",
    "R_X86_64_32": ".long near + 3",
    "R_X86_64_32S": "mov far + 3, %eax",
    "R_X86_64_PC32": "lea far + 3(%rip), %rax",
    "R_X86_64_PLT32": "call far",
    "R_X86_64_PC64": ".quad far - .",
    "R_X86_64_16": ".short near + 3",
    "R_X86_64_8": ".byte near + 3",
    "R_X86_64_PC16": ".short nearby - .",
    "R_X86_64_PC8": ".byte nearby - .",
    "R_X86_64_GOTPCRELX": "call *far@GOTPCREL(%rip); jmp *far@GOTPCREL(%rip)",
    "R_X86_64_GOTPCREL": "mov far@GOTPCREL+0(%rip), %rax",
}


def test_an_address_from_the_table_is_the_address(tmp_path: Path) -> None:
    """GNU ld writes it into the instruction; here it is one relative to the instruction, which means the same."""
    path = assembled("start: mov far@GOTPCREL(%rip), %r9\n", tmp_path)
    assert "R_X86_64_REX_GOTPCRELX" in run("objdump", "-r", "a.o", folder=tmp_path)
    instruction = next(iter(read(path, externals={"far": HIGH + 0x1234}, entries=["start"])))
    address, register = instruction.operands
    assert (instruction.mnemonic, instruction.width, register.name) == ("lea", 64, "r9")  # type: ignore[union-attr]
    assert address.disp % (1 << 64) == HIGH + 0x1234  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", KINDS)
def test_relocations_as_ld_does_them(kind: str, tmp_path: Path) -> None:
    options = ["-mrelax-relocations=no"] if kind == "R_X86_64_GOTPCREL" else []
    path = assembled(f"start: nop\n{KINDS[kind]}\n", tmp_path, options=options)
    assert kind in run("objdump", "-r", "a.o", folder=tmp_path)
    externals = {"far": HIGH + 0x1234, "near": 0x12, "nearby": HIGH + 0x40}
    given = [f"--defsym={name}={value:#x}" for name, value in externals.items()]
    layout = f"SECTIONS {{ .text {HIGH:#x} : {{ *(.text) }} /DISCARD/ : {{ *(.note* .data .bss) }} }}"
    (tmp_path / "script").write_text(layout)
    run("ld", "-T", "script", "-e", "0", *given, "-o", "linked", "a.o", folder=tmp_path)
    ours, theirs = (next(iter(p.sections)) for p in (read(path, externals=externals), read(tmp_path / "linked")))
    assert ours.data == theirs.data


def test_every_relocation_is_compared() -> None:
    assert set(RULES) <= set(KINDS)


@pytest.mark.parametrize(
    ("line", "far", "message"),
    [
        ("call far", HIGH - (1 << 31) - 50, "does not fit a relocation of type R_X86_64_PLT32"),
        ("mov far, %eax", 1 << 31, "does not fit a relocation of type R_X86_64_32S"),
        ("test %rax, far@GOTPCREL(%rip)", HIGH, "a use of the global offset table that is not supported"),
        ("lea far@TPOFF(%rax), %rax", HIGH, "type R_X86_64_TPOFF32 are not supported"),
    ],
)
def test_relocations_that_cannot_be_done(line: str, far: int, message: str, tmp_path: Path) -> None:
    """An error where control comes, and only there."""
    path = assembled(f"start: nop\n{line}\nend: nop\n", tmp_path)
    program = read(path, externals={"far": far}, entries=["start"])
    assert program.instructions[program.symbols["end"].value].mnemonic == "nop"
    with pytest.raises(AsmError, match=re.escape(message)) as caught:
        _ = program.instructions[program.symbols["start"].value + 1]
    assert "start+0x1" in caught.value.render()


def test_symbols(tmp_path: Path) -> None:
    """A strong one before weak ones, the first of several weak ones, and each object's own local one."""
    weak = ".weak f\nf: nop\nlocal: ret\n.globl g{0}\ng{0}: call f; call local\n"
    strong = ".globl f\nf: cld\nret\n"
    files = [assembled(weak.format(1), tmp_path, "x"), assembled(weak.format(2), tmp_path, "y")]

    def calls(*paths: Path) -> list[str]:
        program = read(*paths)
        found = []
        for name in ("g1", "g2"):
            first = program.instructions[program.symbols[name].value]
            second = program.instructions[first.next_address]
            called = [program.instructions[i.operands[0].address] for i in (first, second)]  # type: ignore[union-attr]
            found += [program.describe(c.address) for c in called]
        return found

    assert calls(*files) == ["f", "local", "f", "local (y.o)"]
    assert read(*files).symbols["f"].value == read(files[0]).symbols["f"].value
    last = assembled(strong, tmp_path, "z")
    assert read(*files, last).instructions[read(*files, last).symbols["f"].value].mnemonic == "cld"
    assert calls(*files, last)[::2] == ["f", "f"]
    assert read(last, *files).instructions[read(last, *files).symbols["f"].value].mnemonic == "cld"


def test_what_cannot_be_done_in_data(tmp_path: Path) -> None:
    """Nothing where they are writable: they hold anything at first. An error where they are constant."""
    text = ".globl f\nf: ret\n.section {}\ntable: .short far\n"
    assert read(assembled(text.format(".data"), tmp_path), externals={"far": HIGH}).address_of("table")
    with pytest.raises(AsmError, match=r"a.o, section .rodata, offset 0x0: .* does not fit"):
        read(assembled(text.format(".rodata"), tmp_path), externals={"far": HIGH})


def test_functions_that_are_cut_off(tmp_path: Path) -> None:
    """The stub stands where the function was, for direct calls that need no relocation too."""
    path = assembled(".globl f, g\ng: call f\nret\nf: push %rax\npop %rax\nret\n.size f, .-f\n", tmp_path)
    program = read(path, stubs=[Stub("f")], entries=["g"])
    at = program.symbols["f"].value
    assert [program.instructions[at + n].mnemonic for n in range(3)] == ["hole_enter", "hole_body", "ret"]
    assert at == program.symbols["g"].value + 6


def test_addresses_in_data_of_what_nobody_defines(tmp_path: Path) -> None:
    """They are no numbers that mean something else; control that comes there is an error."""
    data = "table: .quad nobody, nobody, another, third\n"
    path = assembled(f".globl f\nf: jmp *table\n.section .rodata\n{data}", tmp_path)
    program = read(path, entries=["f"])
    words = next(s for s in program.sections if s.name == ".rodata").data
    addresses = [int.from_bytes(words[n : n + 8], "little") for n in (0, 8, 16, 24)]
    assert addresses[0] == addresses[1] == program.symbols["nobody"].value
    assert all(program.covers(a) for a in addresses)
    with pytest.raises(AsmError, match="'another' is not defined"):
        _ = program.instructions[addresses[2]]


def test_position_independent_executables_lie_where_they_are_put(tmp_path: Path) -> None:
    assembled(".globl _start\n_start: lea x(%rip), %rax\nret\nx:\n", tmp_path)
    run("ld", "-pie", "--no-dynamic-linker", "-e", "_start", "-o", "pie", "a.o", folder=tmp_path)
    program = read(tmp_path / "pie", text_base=HIGH, entries=["_start"])
    first = program.instructions[program.symbols["_start"].value]
    assert first.operands[0].disp % (1 << 64) == program.symbols["x"].value > HIGH  # type: ignore[union-attr]
    with pytest.raises(AsmError, match="upper half"):
        read(tmp_path / "pie")


@pytest.mark.parametrize("end", ["jmp *%rax", "ret", "iretq", "lretq", "sysretq", "sysexitq", "ud2", "hlt"])
def test_control_does_not_run_on_from_what_ends_it(end: str, tmp_path: Path) -> None:
    assert len(list(read(assembled(f".globl f\nf: {end}\nstd\n", tmp_path), entries=["f"]))) == 1


def test_code_is_decoded_only_where_it_is_asked_for(tmp_path: Path) -> None:
    """Direct control flow from the entries; any other address when it is asked for."""
    text = ".globl f\nf: jne 1f\ncall g\nret\n1: jmp *%rax\n.byte 6\ng: ret\nh: vmovaps %xmm0, %xmm1\nk: std\nret\n"
    program = read(assembled(text, tmp_path), entries=["f"])
    assert [i.mnemonic for i in program] == ["jcc", "call", "ret", "jmp", "ret"]
    assert program.instructions[program.symbols["k"].value].mnemonic == "std"
    assert len(program.instructions) == 6
    with pytest.raises(AsmError, match="not supported"):
        _ = program.instructions[program.symbols["h"].value]
    with pytest.raises(AsmError, match="middle of an instruction"):
        _ = program.instructions[program.symbols["f"].value + 3]
    nested = read(assembled("f: .byte 0xb8, 0x90, 0x90, 0x90, 0x90\n", tmp_path, "nested"))
    start = nested.symbols["f"].value
    assert nested.instructions[start + 4].mnemonic == "nop"
    with pytest.raises(AsmError, match="two instructions that overlap"):
        _ = nested.instructions[start]
    assert 0 not in program.instructions
    with pytest.raises(KeyError):
        _ = program.instructions[0]
