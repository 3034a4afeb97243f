"""Code that only a contract describes: stubs above the text, with the encodings that GNU as gives to them."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from verifier.asm import assemble
from verifier.asm.outside import SECTION, Stub, text_of
from verifier.errors import AsmError
from verifier.source import Span

if TYPE_CHECKING:
    from pathlib import Path

    from verifier.asm.program import Program

TEXT = "nmi:\n\tcall helper\n\tjne tail\n\tleaq helper(%rip), %rax\n\tiretq\n\t.data\nplace: .quad helper\n"
FUNCTIONS = (Stub("helper"), Stub("tail"))
HANDLERS = (Stub("ud_handler", handler=True), Stub("pf_handler", handler=True, error_code=True))
KEY = Span("spec.yaml", 7, 3, 9, "  helper: {}")


def assembled(folder: Path, text: str, *stubs: Stub, **defines: str) -> Program:
    (folder / "a.s").write_text(text)
    return assemble([folder / "a.s"], root=folder, defines=defines, outside=stubs)


@pytest.mark.parametrize("defines", [{}, {"ret": "nop", "helper": "helper"}])
def test_stubs_stand_above_the_text_and_apart_from_it(tmp_path: Path, defines: dict[str, str]) -> None:
    program = assembled(tmp_path, TEXT, *FUNCTIONS, *HANDLERS, **defines)
    text, stubs = (next(s for s in program.sections if s.name == name) for name in (".text", SECTION))
    assert stubs.address % 4096 == 0
    assert stubs.executable
    assert stubs.address > text.end
    assert stubs.address not in program.instructions, "what runs on past the text comes to no stub"
    wanted = {
        "helper": ["hole_enter", "hole_body", "ret"],
        "tail": ["hole_enter", "hole_body", "ret"],
        "ud_handler": ["hole_enter", "hole_body", "iret"],
        "pf_handler": ["hole_enter", "hole_body", "lea", "iret"],
    }
    for name, mnemonics in wanted.items():
        inside = [i for i in program if i.address in program.extent(name)]
        assert [i.mnemonic for i in inside] == mnemonics
        assert {i.hole for i in inside[:2]} == {name}
    data = next(s for s in program.sections if s.name == ".data")
    assert int.from_bytes(data.data, "little") == program.symbols["helper"].value
    assert program.files == ("a.s",)


@pytest.mark.parametrize(
    ("text", "stubs", "message", "hint"),
    [
        ("nmi: call helpr\n", [Stub("helper", KEY)], "nothing in the program calls 'helper'", "'helpr'"),
        ("nmi: iretq\n", [Stub("helper", KEY)], "nothing in the program calls 'helper'", None),
        ("nmi: call helper\nhelper: ret\n", [Stub("helper", KEY)],
         "'helper' is no code outside the program: it stands at a.s:2:1", None),
        ("nmi: call nmi\n", [Stub("nmi", KEY, handler=True)],
         "'nmi' is no code outside the program: it stands at a.s:1:1", "write 'entry: nmi'"),
        ("nmi: call helper\n", [], "the symbol 'helper' is not defined", "add 'helper: {}' to 'calls'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_where_it_stands(
    tmp_path: Path, text: str, stubs: list[Stub], message: str, hint: str | None
) -> None:
    with pytest.raises(AsmError) as raised:
        assembled(tmp_path, text, *stubs)
    error = raised.value
    assert error.message == message
    assert error.span is not None
    assert error.span.where == ("spec.yaml:7:3" if stubs else "a.s:1:11")
    assert (hint is None and error.hint is None) or (hint or "") in (error.hint or "")


@pytest.mark.skipif(shutil.which("as") is None, reason="needs GNU as")
def test_gnu_as_gives_the_same_bytes(tmp_path: Path) -> None:
    program = assembled(tmp_path, TEXT, *FUNCTIONS, *HANDLERS)
    section = next(s for s in program.sections if s.name == SECTION)
    shown = text_of([*FUNCTIONS, *HANDLERS]).replace("\t...\n", "\t.byte 0, 0\n")
    subprocess.run(["as", "-o", tmp_path / "a.o"], input=shown, text=True, check=True)
    subprocess.run(["objcopy", "-O", "binary", "-j", SECTION, tmp_path / "a.o", tmp_path / "a.bin"], check=True)
    assert (tmp_path / "a.bin").read_bytes().rstrip(b"\0") == section.data.rstrip(b"\0")
