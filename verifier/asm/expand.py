"""The stream of statements: files, includes, macro expansions and repeats, with the conditionals in force."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.asm import macros
from verifier.asm.budget import DEPTH
from verifier.asm.conditionals import NAMES as CONDITIONALS
from verifier.asm.conditionals import Conditionals
from verifier.asm.cpp import Preprocessor, predefine
from verifier.asm.directives import DIRECTIVES
from verifier.asm.expression import parse
from verifier.asm.lines import physical
from verifier.asm.scrub import AS_COMMENTS, Statement, statements, with_numbers, without_comments
from verifier.errors import AsmError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from verifier.asm.cpp_macros import CppMacros
    from verifier.asm.files import Reader, SourceFile
    from verifier.asm.lines import Line
    from verifier.asm.state import Assembly

_LABELS = re.compile(r"(?:[\w.$\\@()]+\s*:\s*)*", re.ASCII)
#: Those before which GNU as sees the directives that open and close macros and repeats.
_NAMED_LABELS = re.compile(r"(?:[A-Za-z_.$][\w.$]*\s*:\s*)*", re.ASCII)
#: What is looked at where text is skipped, whatever follows in the same word.
_CONDITIONAL = (".if", ".else", ".endif", ".endc")
_PARAMETER = re.compile(r"([\w.$]+)\s*,?\s*", re.ASCII)
_WORD = re.compile(r"[A-Za-z_.$][\w.$]*", re.ASCII)


@dataclass(slots=True)
class _Frame:
    """One level of input. ``conditionals`` open where it began; ``path`` of an included file."""

    source: Iterator[Statement]
    conditionals: int
    expansion: bool
    path: Path | None = None


def word_end(text: str) -> int:
    """Where the first word after any labels ends."""
    start = _LABELS.match(text)
    match = _WORD.match(text, start.end() if start else 0)
    return match.end() if match else 0


def word_of(text: str, labels: re.Pattern[str] = _LABELS) -> str:
    """The first word after any labels, in lower case."""
    start = labels.match(text)
    match = _WORD.match(text, start.end() if start else 0)
    return match.group().lower() if match else ""


class Input:
    """The live statements of one file; macro calls and control directives come back to `control`."""

    def __init__(
        self,
        assembly: Assembly,
        reader: Reader | None,
        defines: CppMacros,
        source: SourceFile,
        preprocess: bool,
    ) -> None:
        self._assembly = assembly
        self._reader = reader
        self._defines = defines
        self.conditionals = Conditionals(assembly)
        self._macros: dict[str, macros.Macro] = {}
        self._count = 0
        lines = self._preprocessed(source, defines.copy()) if preprocess else self._plain(source)
        self._frames = [_Frame(self._statements(lines), 0, False, source.path)]
        self._controls: dict[str, Callable[[Statement, Line], None]] = {
            ".macro": self._define,
            ".endm": self._stray,
            ".endr": self._stray,
            ".exitm": self._exit,
            ".purgem": self._purge,
            ".rept": self._repeat,
            ".irp": self._iterate,
            ".irpc": self._iterate,
            ".include": self._include,
        }

    def __iter__(self) -> Iterator[Statement]:
        while self._frames:
            frame = self._frames[-1]
            statement = next(frame.source, None)
            if statement is None:
                self.conditionals.check_closed(frame.conditionals)
                self._frames.pop()
            elif self.conditionals.live or statement.line.text.lower().startswith(_CONDITIONAL):
                yield statement

    def is_control(self, word: str) -> bool:
        return word in CONDITIONALS or word in self._controls or word in self._macros

    def words(self) -> set[str]:
        """What a misspelt word may have meant here."""
        return {*CONDITIONALS, *self._controls, *self._macros}

    def control(self, word: str, statement: Statement, arguments: Line) -> None:
        """A conditional, a macro directive or a macro call."""
        if word in CONDITIONALS:
            self.conditionals.handle(word, statement.line, arguments, self._frames[-1].conditionals)
        elif word in self._macros:
            self._call(self._macros[word], statement, arguments)
        else:
            self._controls[word](statement, arguments)

    # --- where lines come from ---

    def _preprocessed(self, source: SourceFile, macros: CppMacros) -> Iterator[Line]:
        """Includes by ``.include`` are not preprocessed: only ``#include`` sees the macros of the file."""
        if self._reader is None:
            raise AsmError("this text has no folder to include from")
        predefine(macros)
        preprocessor = Preprocessor(self._reader, macros, self._assembly.budget, self._assembly.diagnostics)
        return without_comments(preprocessor.lines(source), AS_COMMENTS)

    def _plain(self, source: SourceFile) -> Iterator[Line]:
        for line in without_comments(physical(source), AS_COMMENTS):
            self._assembly.budget.line(line)
            yield self._defines.expand_line(line)

    def _statements(self, lines: Iterable[Line]) -> Iterator[Statement]:
        for line in lines:
            yield from statements(with_numbers(line))

    def _push(self, lines: Iterator[Line], line: Line) -> None:
        if len(self._frames) > DEPTH:
            raise line.error(f"macros, repeats and includes are nested more than {DEPTH} deep")
        self._frames.append(_Frame(self._expanded(lines), self.conditionals.depth, True))

    def _expanded(self, lines: Iterator[Line]) -> Iterator[Statement]:
        for line in lines:
            self._assembly.budget.expanded_line(line)
            yield from statements(line)

    # --- macros and repeats ---

    def _body(self, statement: Statement, openers: Sequence[str], closer: str) -> tuple[Statement, ...]:
        """The statements up to the matching closing directive."""
        body: list[Statement] = []
        nesting = 0
        for inner in self._frames[-1].source:
            word = word_of(inner.line.text, _NAMED_LABELS)
            if word == closer:
                if not nesting:
                    return (*body, *_labels_of(inner))
                nesting -= 1
            nesting += word in openers
            body.append(inner)
        raise statement.line.error(
            f"{word_of(statement.line.text)} without {closer}", f"close it with {closer}"
        )

    def _define(self, statement: Statement, arguments: Line) -> None:
        name, parameters = macros.read_header(arguments)
        body = self._body(statement, (".macro",), ".endm")
        if name in self._macros:
            first = self._macros[name].defined.where
            raise arguments.error(f"macro '{name}' is already defined", f"the first definition is at {first}")
        if name in self._controls or name in CONDITIONALS or name in DIRECTIVES:
            raise arguments.error(f"'{name}' is a directive and cannot be a macro")
        self._macros[name] = macros.Macro(name, parameters, body, statement.span)

    def _call(self, macro: macros.Macro, statement: Statement, arguments: Line) -> None:
        at = word_end(statement.line.text)
        if statement.line.text[at : at + 1].strip():
            raise arguments.error(f"a blank is missing after the macro '{macro.name}'")
        values = macros.bind(macro, arguments)
        number = self._count
        self._count += 1
        self._push(macros.expansion(macro.body, values, number, statement.span), statement.line)

    def _repeat(self, statement: Statement, arguments: Line) -> None:
        body = self._body(statement, macros.REPEATS, ".endr")
        count = self._assembly.constant(parse(arguments, self._assembly))
        if count is None or count < 0:
            raise arguments.error("the count must be a known number, not negative")
        self._foresee(count, body, statement)
        origin = statement.span
        if body:
            self._push((s.line.within(origin) for _ in range(count) for s in body), statement.line)

    def _iterate(self, statement: Statement, arguments: Line) -> None:
        body = self._body(statement, macros.REPEATS, ".endr")
        name, values = _values(statement, arguments)
        self._foresee(len(values), body, statement)
        origin, count = statement.span, self._count
        lines = (s for v in values for s in macros.expansion(body, {name: v}, count, origin))
        self._push(lines, statement.line)

    def _foresee(self, count: int, body: Sequence[Statement], statement: Statement) -> None:
        """Refuses nested repeats that must run out of budget before they cost time."""
        lines = count * max(1, macros.nested_lines(body, self._times))
        self._assembly.budget.foresee(lines, statement.span)

    def _times(self, statement: Statement) -> int:
        """How often a nested repeat will run, as far as that can be told from here; 1 if not."""
        word = word_of(statement.line.text)
        arguments = statement.line[len(word) :].strip()
        if word != ".rept":
            return len(_values(statement, arguments)[1]) if _PARAMETER.match(arguments.text) else 1
        text = arguments.text
        if text.isdigit() and text.isascii():
            return int(text[:20])
        entry = self._assembly.symbols.entry_or_none(text)
        count = self._assembly.constant(entry.current) if entry and entry.current else None
        return 1 if count is None else max(0, count)

    def _exit(self, statement: Statement, _arguments: Line) -> None:
        if not self._frames[-1].expansion:
            raise statement.line.error(".exitm outside a macro")
        self.conditionals.unwind(self._frames.pop().conditionals)

    def _purge(self, _statement: Statement, arguments: Line) -> None:
        name = arguments.text.lower()
        if name not in self._macros:
            raise arguments.error(f"no macro '{name}'", nearest(name, self._macros))
        del self._macros[name]

    def _stray(self, statement: Statement, _arguments: Line) -> None:
        raise statement.line.error(f"{statement.line.text} closes nothing here")

    def _include(self, statement: Statement, arguments: Line) -> None:
        text = arguments.text
        if self._reader is None or len(text) < 3 or text[0] != '"' or text[-1] != '"':
            raise statement.line.error('.include needs "FILE", within the folder tree')
        if len(self._frames) > DEPTH:
            raise statement.line.error(f"includes are nested more than {DEPTH} deep")
        self._assembly.budget.include(statement.span)
        including = [f.path for f in self._frames if f.path]
        source = self._reader.include(text[1:-1], including, statement.span)
        self._frames.append(
            _Frame(self._statements(self._plain(source)), self.conditionals.depth, False, source.path)
        )


def _labels_of(statement: Statement) -> Iterator[Statement]:
    """The labels before a closing directive: they belong to the body."""
    match = _NAMED_LABELS.match(statement.line.text)
    if match and match.end():
        labels = statement.line[: match.end()].strip()
        yield Statement(labels, labels.text)


def _values(statement: Statement, arguments: Line) -> tuple[str, list[str]]:
    """The parameter of ``.irp`` or ``.irpc`` and its values; without any, one empty value."""
    match = _PARAMETER.match(arguments.text)
    if match is None:
        raise statement.line.error("the name of a parameter is missing")
    rest = arguments[match.end() :]
    values = macros.items(rest) if word_of(statement.line.text) == ".irp" else macros.characters(rest)
    return match.group(1), values or [""]
