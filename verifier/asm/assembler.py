"""The way in: files or text to a `Program`."""

from __future__ import annotations

import re
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from verifier.asm.budget import FILE_BYTES, Budget
from verifier.asm.cpp_macros import CppMacros
from verifier.asm.data import move_to
from verifier.asm.directives import DIRECTIVES, assign
from verifier.asm.encode import mnemonics, unknown
from verifier.asm.expand import Input
from verifier.asm.expression import label_number
from verifier.asm.files import Reader, SourceFile, check_text
from verifier.asm.ignored import check_closed
from verifier.asm.instructions import PREFIXES, Pending, hole, instruct
from verifier.asm.link import Linker
from verifier.asm.outside import SOURCE, check, text_of
from verifier.asm.program import TEXT_BASE, Program
from verifier.asm.state import Assembly
from verifier.errors import AsmError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from verifier.asm.lines import Line
    from verifier.asm.outside import Stub
    from verifier.asm.scrub import Statement

_LABEL = re.compile(r"(?:(\d+)|([A-Za-z_.$][\w.$]*))\s*:(?!:)\s*", re.ASCII)
_ASSIGNMENT = re.compile(r"([A-Za-z_.$][\w.$]*)\s*=(?!\s*=)\s*", re.ASCII)
_EQUIVALENCE = re.compile(r"[A-Za-z_.$][\w.$]*\s*=\s*=", re.ASCII)
_WORD = re.compile(r"[A-Za-z_.$][\w.$]*", re.ASCII)
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_MNEMONICS = mnemonics()
_NONE: Mapping[str, str | int] = MappingProxyType({})
_NO_EXTERNALS: Mapping[str, int] = MappingProxyType({})


def assemble(
    files: Sequence[Path],
    *,
    root: Path,
    defines: Mapping[str, str | int] = _NONE,
    externals: Mapping[str, int] = _NO_EXTERNALS,
    outside: Sequence[Stub] = (),
    text_base: int = TEXT_BASE,
) -> Program:
    """The files, one after another, as one program; ``.S`` files are preprocessed.

    Nothing outside the folder ``root`` is opened. ``defines`` replace identifiers in all files; ``externals``
    are absolute symbols used where the text defines none; ``outside`` are functions that it calls and handlers that
    are not shown. Raises `AsmError` for whatever is wrong.
    """
    reader = Reader(root)
    run = _Run(reader, defines)
    if not files:
        raise AsmError("no file to assemble")
    for path in files:
        run.read(reader.open(path), preprocess=path.suffix == ".S")
    run.add_outside(outside)
    return Linker(run.assembly, externals, text_base).program(tuple(reader.names))


def assemble_text(
    text: str,
    name: str = "<text>",
    *,
    root: Path | None = None,
    defines: Mapping[str, str | int] = _NONE,
    externals: Mapping[str, int] = _NO_EXTERNALS,
    text_base: int = TEXT_BASE,
) -> Program:
    """Like `assemble` for a text at hand; without ``root`` nothing is included, and ``.S`` needs a root."""
    if len(text) > FILE_BYTES:
        raise AsmError(f"{name} is larger than {FILE_BYTES >> 20} MB")
    check_text(text, name)
    run = _Run(Reader(root) if root else None, defines)
    run.read(SourceFile(name, text), preprocess=name.endswith(".S"))
    return Linker(run.assembly, externals, text_base).program((name,))


class _Run:
    """Reads files into one `Assembly`."""

    def __init__(self, reader: Reader | None, defines: Mapping[str, str | int]) -> None:
        self._budget = Budget()
        self._reader = reader
        self._defines = _macros(defines, self._budget)
        self.assembly = Assembly(self._budget)
        self._pending: Pending | None = None

    def read(self, source: SourceFile, preprocess: bool) -> None:
        """One file: its macros, conditionals and local labels end with it."""
        self.assembly.begin_file()
        stream = Input(self.assembly, self._reader, self._defines, source, preprocess)
        for statement in stream:
            self._statement(statement, stream)
        self._no_pending()
        check_closed(self.assembly)
        self.assembly.symbols.end_file()

    def add_outside(self, stubs: Sequence[Stub]) -> None:
        """Code that only a contract describes, as text that no definition changes."""
        check(stubs, self.assembly)
        self._defines = CppMacros(self._budget)
        self.read(SourceFile(SOURCE, text_of(stubs)), preprocess=False)

    def _statement(self, statement: Statement, stream: Input) -> None:
        line = statement.line
        while match := _LABEL.match(line.text):
            if stream.conditionals.live:
                self._label(match, line)
            line = line[match.end() :]
        if not line.text:
            return
        word = _WORD.match(line.text)
        name = word.group().lower() if word else ""
        arguments = line[len(name) :].strip()
        if (assignment := _ASSIGNMENT.match(line.text)) and stream.conditionals.live:
            self._assign(statement, line[: assignment.end(1)], line[assignment.end() :])
        elif stream.is_control(name):
            stream.control(name, statement, arguments)
        elif match := _EQUIVALENCE.match(line.text):
            raise line.error("'==' is not supported here", "write '='", 0, match.end())
        elif line.text == "...":
            self._no_pending()
            hole(self.assembly, statement)
        elif name.startswith("."):
            self._no_pending()
            self._directive(name, statement, line, arguments, stream)
        else:
            self._instruction(name, statement, line, stream)

    def _label(self, match: re.Match[str], line: Line) -> None:
        self._no_pending()
        number, name = match.groups()
        if number is None:
            self.assembly.label(name, line.span(match.start(2), match.end(2)))
        else:
            self.assembly.numbered(label_number(number, line.span(match.start(1), match.end(1))))

    def _assign(self, statement: Statement, name: Line, expression: Line) -> None:
        self._no_pending()
        if name.text == ".":
            move_to(self.assembly, statement, expression)
        else:
            assign(self.assembly, name, expression)

    def _directive(self, name: str, statement: Statement, line: Line, arguments: Line, stream: Input) -> None:
        handler = DIRECTIVES.get(name)
        if handler is None:
            hint = nearest(name, {*DIRECTIVES, *stream.words()})
            raise line.error(f"unknown directive '{name}'", hint, 0, len(name))
        if line.text[len(name) : len(name) + 1] == '"':
            raise line.error(f"a blank is missing after {name}", None, 0, len(name))
        handler(self.assembly, statement, arguments)

    def _instruction(self, name: str, statement: Statement, line: Line, stream: Input) -> None:
        if name and name not in _MNEMONICS and name not in PREFIXES:
            error = unknown(name, {*_MNEMONICS, *stream.words()})
            raise line.error(error.message, error.hint, 0, len(name))
        self._pending = instruct(self.assembly, statement, line, self._pending)

    def _no_pending(self) -> None:
        if self._pending:
            statement = self._pending.statement
            raise statement.line.error(f"'{statement.text}' is a prefix, but no instruction follows")


def _macros(defines: Mapping[str, str | int], budget: Budget) -> CppMacros:
    macros = CppMacros(budget)
    for name, value in defines.items():
        if not _IDENTIFIER.fullmatch(name):
            raise AsmError(f"'{name}' cannot be defined", None, "a name has letters, digits and '_'")
        macros.define_text(name, str(value))
    return macros
