"""The C preprocessor for ``.S`` files: directives, conditionals, includes below the root folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.asm import cpp_condition
from verifier.asm.budget import DEPTH
from verifier.asm.cpp_macros import CppMacro, CppMacros, stripped, tokens
from verifier.asm.lines import Line, joined, physical, rewritten
from verifier.asm.program import Diagnostic
from verifier.asm.scrub import CPP_COMMENTS, without_comments
from verifier.errors import AsmError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from verifier.asm.budget import Budget
    from verifier.asm.files import Reader, SourceFile

_DIRECTIVE = re.compile(r"\s*#\s*([A-Za-z_]\w*)?", re.ASCII)
_DEFINED = re.compile(r"\bdefined\b(?:\s*\(\s*([A-Za-z_]\w*)\s*\)|\s*([A-Za-z_]\w*))?", re.ASCII)
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_FILE = re.compile(r'"[^"]+"')
_COMMENT_HINT = (
    "in a .S file a line that begins with '#' and such a word is a directive, "
    "even where a comment was meant; .s files are not preprocessed"
)
#: Directives that cpp has and this preprocessor does not: better refused than taken for comments.
_UNSUPPORTED = (
    "include_next",
    "import",
    "line",
    "pragma",
    "assert",
    "unassert",
    "elifdef",
    "elifndef",
    "embed",
)
_CONDITIONALS = ("if", "ifdef", "ifndef", "elif", "else", "endif")
#: What every compiler driver on Linux defines for x86-64 assembly, each as 1.
_PREDEFINED = (
    "__ASSEMBLER__", "__x86_64__", "__x86_64", "__amd64__", "__amd64", "__LP64__", "_LP64", "__ELF__", "__linux__",
    "__linux", "linux", "__gnu_linux__", "__unix__", "__unix", "unix",
)  # fmt: skip
#: What compilers define each in its own way.
_COMPILER_DEPENDENT = re.compile(
    r"__(?:ATOMIC_|BIGGEST_|BYTE_ORDER_|CHAR(?:16|32|_BIT)_|DBL_|DEC(?:\d+|IMAL)?_|FINITE_|FLOAT_|FLT\w*_|FXSR_|GCC_|GNUC_"
    r"|GXX_|HAVE_SPECULATION_|U?INT(?:\d+|MAX|PTR)?_|LDBL_|LONG_|MMX_|NO_INLINE_|OPTIMIZE_|ORDER_|PI[CE]_|pi[ce]_|PRAGMA_"
    r"|PTRDIFF_|REGISTER_PREFIX_|SCHAR_|SEG_[FG]S|SHRT_|SIG_ATOMIC_|SIZE(?:OF)?_|SSE\d?_|STDC_|USER_LABEL_|VERSION_|WCHAR_"
    r"|WINT_|code_model_|k8|AVX\w*_|CET_|(?:COUNTER|LINE|FILE|BASE_FILE|DATE|TIME|TIMESTAMP|INCLUDE_LEVEL)__|has_)\w*"
    r"|_STDC_PREDEF_H"
)


@dataclass(slots=True)
class _Group:
    """An open ``#if``. ``taken``: a branch was already used; ``live``: this branch is used."""

    opening: Line
    outer_live: bool
    live: bool
    taken: bool
    seen_else: bool = False


def predefine(macros: CppMacros) -> None:
    """The macros that a compiler driver defines for x86-64 assembly."""
    for name in _PREDEFINED:
        if name not in macros:
            macros.define_text(name, "1")


class Preprocessor:
    """Turns one ``.S`` file, and what it includes, into lines without directives."""

    def __init__(
        self, reader: Reader, macros: CppMacros, budget: Budget, diagnostics: list[Diagnostic]
    ) -> None:
        self._reader = reader
        self._macros = macros
        self._budget = budget
        self._diagnostics = diagnostics
        self._including: list[Path] = []

    def lines(self, source: SourceFile) -> Iterator[Line]:
        """The lines of the file, comments removed, macros expanded, includes in place."""
        if source.path:
            self._including.append(source.path)
        groups: list[_Group] = []
        for line in without_comments(_logical_lines(source), CPP_COMMENTS):
            self._budget.line(line)
            match = _DIRECTIVE.match(line.text)
            live = not groups or groups[-1].live
            if match is None:
                if live:
                    yield self._macros.expand_line(line)
            elif (word := match.group(1)) in _CONDITIONALS:
                self._conditional(word, line, match.end(), groups)
            elif live and word:
                yield from self._directive(word, line, match.end())
        if groups:
            raise groups[-1].opening.error("this conditional is never closed", _COMMENT_HINT)
        if source.path:
            self._including.pop()

    def _conditional(self, word: str, line: Line, at: int, groups: list[_Group]) -> None:
        if word.startswith("if"):
            if len(groups) >= DEPTH:
                raise line.error(f"conditionals are nested more than {DEPTH} deep")
            outer = not groups or groups[-1].live
            live = outer and self._holds(word, line, at)
            groups.append(_Group(line, outer, live, live))
            return
        if not groups:
            raise line.error(f"#{word} without #if", _COMMENT_HINT)
        group = groups[-1]
        if word != "elif" and line.text[at:].strip():
            raise line.error(f"text after #{word}", _COMMENT_HINT, at)
        if word == "endif":
            groups.pop()
            return
        if group.seen_else:
            raise line.error(f"#{word} after #else", _COMMENT_HINT)
        group.seen_else = word == "else"
        eligible = group.outer_live and not group.taken
        group.live = eligible and (word == "else" or self._holds("if", line, at))
        group.taken = group.taken or group.live

    def _holds(self, word: str, line: Line, at: int) -> bool:
        rest = line[at:].strip()
        if word != "if":
            if not _NAME.fullmatch(rest.text):
                raise line.error(f"#{word} needs one name", _COMMENT_HINT)
            return self._is_defined(rest.text, rest) == (word == "ifdef")
        expanded = self._macros.expand_line(self._defined_replaced(rest))
        for match in _NAME.finditer(expanded.text):
            self._is_defined(match.group(), line)
        try:
            return cpp_condition.evaluate(expanded.text)
        except cpp_condition.BadCondition as error:
            raise line.error(str(error), _COMMENT_HINT) from error

    def _defined_replaced(self, line: Line) -> Line:
        """``defined NAME`` and ``defined(NAME)`` as 1 or 0."""
        changes = []
        for match in _DEFINED.finditer(line.text):
            name = match.group(1) or match.group(2)
            if name is None:
                raise line.error("'defined' needs a name", _COMMENT_HINT)
            changes.append((match.start(), match.end(), str(int(self._is_defined(name, line)))))
        return rewritten(line, changes) if changes else line

    def _is_defined(self, name: str, line: Line) -> bool:
        """`AsmError` for a name that the text leaves to the compiler, which there is none of."""
        if name not in self._macros and _COMPILER_DEPENDENT.fullmatch(name):
            hint = "give it in 'defines' in the specification"
            raise line.error(f"'{name}' depends on the compiler, and is not defined here", hint)
        return name in self._macros

    def _directive(self, word: str, line: Line, at: int) -> Iterator[Line]:
        if word == "include":
            yield from self._include(line, at)
            return
        simple: dict[str, Callable[[Line, int], None]] = {
            "define": self._define,
            "undef": self._undef,
            "error": _error,
            "warning": self._warning,
        }
        if word in simple:
            simple[word](line, at)
        elif word in _UNSUPPORTED:
            raise line.error(f"#{word} is not supported", _COMMENT_HINT)

    def _include(self, line: Line, at: int) -> Iterator[Line]:
        rest = line[at:].strip()
        wanted, span = self._macros.expand_line(rest).text, rest.span()
        if wanted.startswith("<"):
            hint = "system headers are not read; give what is needed as 'defines' in the specification"
            raise AsmError(f"#include {wanted} is not supported", span, hint)
        if not _FILE.fullmatch(wanted):
            raise AsmError('#include needs "FILE"', span, _COMMENT_HINT)
        if len(self._including) >= DEPTH:
            raise AsmError(f"includes are nested more than {DEPTH} deep", span)
        self._budget.include(span)
        yield from self.lines(self._reader.include(wanted[1:-1], self._including, span))

    def _define(self, line: Line, at: int) -> None:
        rest = line[at:].strip()
        match = _NAME.match(rest.text)
        if match is None or match.group() == "defined":
            raise line.error("#define needs a name", _COMMENT_HINT)
        body = rest[match.end() :]
        parameters, variadic = None, False
        if body.text.startswith("("):
            parameters, variadic, used = _parameters(body)
            body = body[used:]
        macro = CppMacro(match.group(), stripped(tokens(body)), parameters, variadic)
        if macro.body and "##" in (macro.body[0].text, macro.body[-1].text):
            raise rest.error("'##' joins what stands on both sides of it")
        old = self._macros.get(macro.name)
        if old and not old.same_as(macro):
            raise rest.error(
                f"'{macro.name}' is already defined as something else",
                "write #undef before it, or drop it from the specification's 'defines'",
                0,
                match.end(),
            )
        self._macros.define(macro)

    def _undef(self, line: Line, at: int) -> None:
        name = line[at:].strip().text
        if not _NAME.fullmatch(name):
            raise line.error("#undef needs one name", _COMMENT_HINT)
        self._macros.undefine(name)

    def _warning(self, line: Line, at: int) -> None:
        self._diagnostics.append(Diagnostic(f"#warning {line.text[at:].strip()}", line.strip().span()))


def _parameters(body: Line) -> tuple[tuple[str, ...], bool, int]:
    """The parameter list that ``body`` begins with: names, whether variadic, characters used."""
    end = body.text.find(")")
    if end < 0:
        raise body.error("the parameter list is not closed")
    names = [n.strip() for n in body.text[1:end].split(",")]
    if names == [""]:
        return (), False, end + 1
    variadic = names[-1].endswith("...")
    if variadic:
        names[-1] = names[-1][:-3].strip() or "__VA_ARGS__"
    wrong = next((n for n in names if not _NAME.fullmatch(n)), None)
    if wrong is not None or len(set(names)) != len(names):
        raise body.error("a parameter list has different names, separated by commas", None, 0, end + 1)
    return tuple(names), variadic, end + 1


def _error(line: Line, at: int) -> None:
    raise line.strip().error(f"#error {line.text[at:].strip()}")


def _logical_lines(source: SourceFile) -> Iterator[Line]:
    """Physical lines, those that end in a backslash joined with the next."""
    parts: list[Line] = []
    for line in physical(source):
        if line.text.endswith("\\"):
            parts.append(line[: len(line) - 1])
            continue
        yield joined([*parts, line]) if parts else line
        parts = []
    if parts:
        yield joined(parts)
