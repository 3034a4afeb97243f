"""Lines of DWARF, of every version and however packed: those of the text that was assembled."""

from __future__ import annotations

from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from object_build import assembled, listed, read, run
from object_surgery import with_contents

from verifier.asm import assemble_text
from verifier.object.fields import Fields
from verifier.object.line_program import _joined

TEXT = """
start:	cld
	nop; std

	.section .entry.text, "ax"
other:	jne start
	.rept 3
	nop
	.endr
	.text
	jmp other
	.balign 16
far:	ret
	.fill 300, 1, 0x90
	hlt
	.fill 22, 1, 0x90
	cli
"""
VERSIONS = [(f"--gdwarf-{n}",) for n in (2, 3, 4, 5)]
PACKED = [("--gdwarf-5", f"--compress-debug-sections={how}") for how in ("zlib", "none")]


def expected() -> dict[int, int]:
    """Address to line, by our own assembler."""
    return {i.address: i.span.line for i in assemble_text(TEXT, "a.s")}


@pytest.mark.parametrize("options", [*VERSIONS, *PACKED], ids=" ".join)
def test_lines_of_objects_and_executables(options: tuple[str, ...], tmp_path: Path) -> None:
    path = assembled(TEXT, tmp_path, options=options)
    run("ld", "-Ttext=0xffffffff81000000", "-e", "0", "-o", "linked", "a.o", folder=tmp_path)
    lines = expected()
    found = read(path)
    same = {a: line for a, line in lines.items() if TEXT.split("\n")[line - 1].strip(" \t")[:4] not in (".fil", ".bal")}
    for address, line in same.items():
        span = found.instructions[address].span
        assert (Path(span.file).name, span.line) == ("a.s", line)
    linked = read(tmp_path / "linked")
    names = {n: s.value for n, s in linked.symbols.items()}
    assert {n: linked.instructions[names[n]].span.line for n in ("start", "other", "far")} == {
        n: lines[found.symbols[n].value] for n in ("start", "other", "far")
    }


def test_what_pyelftools_reads(tmp_path: Path) -> None:
    """Every row of the line table, of a linked program."""
    assembled(TEXT, tmp_path, options=["-g"])
    run("ld", "-Ttext=0xffffffff81000000", "-e", "0", "-o", "linked", "a.o", folder=tmp_path)
    program = read(tmp_path / "linked")
    with (tmp_path / "linked").open("rb") as stream:
        dwarf = ELFFile(stream).get_dwarf_info()
        rows = [
            (entry.state.address, entry.state.line)
            for unit in dwarf.iter_CUs()
            for entry in dwarf.line_program_for_CU(unit).get_entries()
            if entry.state is not None and not entry.state.end_sequence
        ]
    assert len(rows) == 8
    for address, line in rows:
        assert program.instructions[address].span.line == line


def test_damaged_lines_are_left_out(tmp_path: Path) -> None:
    """They only serve messages: an instruction is told by its symbol then."""
    path = assembled(TEXT, tmp_path, options=["-g"])
    data = path.read_bytes()
    for offset in range(4, 60):
        path.write_bytes(with_contents(data, ".debug_line", offset, b"\xff\xff\xff"))
        program = read(path)
        span = program.instructions[program.symbols["start"].value].span
        assert (span.file, span.line) == ("a.o(start)", 0) or span.line > 0
        assert span.file.isprintable()


@pytest.mark.parametrize(("index", "name"), [(1, "there/a.s"), (0, "a.s"), (2, "a.s"), ("there", "a.s")])
def test_a_directory_that_is_not_there_is_left_out(index: int | str, name: str) -> None:
    """The form of an index is the object's own choice: it may be a text."""
    assert _joined(["", "there"], index, "a.s") == name


def test_a_text_may_be_empty() -> None:
    fields = Fields(b"\0a\0")
    assert [fields.string(), fields.string(), bool(fields)] == ["", "a", False]


def test_lines_of_a_listing_are_its_own(tmp_path: Path) -> None:
    path = listed(assembled(TEXT, tmp_path))
    program = read(path)
    lines = path.read_text().split("\n")
    for name in ("start", "other", "far"):
        span = program.instructions[program.symbols[name].value].span
        assert span.file == "a.lst"
        assert f"<{name}>:" in lines[span.line - 2]
