"""Comments out, character constants to numbers, lines into statements: what GNU as does before it parses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.asm.lines import Line, joined, rewritten

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from verifier.source import Span

_STRING = r'"(?:\\.|[^"\\])*"?'
#: What the C preprocessor looks at: ``#`` within a line means nothing to it, a lone ``'`` takes the rest.
CPP_COMMENTS = re.compile(_STRING + r"|'(?:\\.|[^'\\])*'?|//|/\*")
#: What GNU as looks at: ``#`` anywhere, ``/`` where a statement begins; ``//`` elsewhere is two divisions.
AS_COMMENTS = re.compile(_STRING + r"|'(?:\\.|[^\\])|\#|/\*|(?:^|[;:])\s*/(?!\*)")

_CHARACTER = re.compile(_STRING + r"|'(?:\\(?P<escape>.)|(?P<plain>[^\\]))'?|(?P<alone>')")
_ESCAPES = {"b": 8, "t": 9, "n": 10, "f": 12, "r": 13}
#: Besides ``;``, what Python takes for a blank and GNU as does not; a form feed may begin a line.
_SEPARATOR = re.compile(
    _STRING + r"|(?P<end>;)|(?P<odd>(?!^)\f|[\v\x1c-\x1f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000])"
)


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """One statement, trimmed, never empty; ``text`` is how it is shown."""

    line: Line
    text: str

    @property
    def span(self) -> Span:
        return self.line.span()


def without_comments(lines: Iterable[Line], comments: re.Pattern[str]) -> Iterator[Line]:
    """The lines with comments removed; a block comment ends a line where it spans lines, except in C."""
    source = iter(lines)
    for first in source:
        line, at = first, 0
        parts: list[Line] = []
        while match := comments.search(line.text, at):
            mark = match.group().lstrip(";: \t")
            if mark in ("#", "//") or (mark == "/" and _begins(parts, match)):
                line = line[: match.end() - len(mark)]
                break
            if mark != "/*":
                at = match.end()
                continue
            parts += [line[: match.start()], Line(" ", line.offsets[match.start() :][:2], line.source)]
            line, spans = _after_comment(line, match.start(), source)
            if spans and comments is AS_COMMENTS:
                yield joined(parts)
                parts = []
            at = 0
        yield joined([*parts, line]) if parts else line


def _begins(before: Sequence[Line], match: re.Match[str]) -> bool:
    """Whether the match stands where a statement begins, although block comments may stand ``before`` it."""
    return match.start() > 0 or not any(part.text.strip() for part in before)


def _after_comment(line: Line, start: int, following: Iterator[Line]) -> tuple[Line, bool]:
    """What stands after the ``*/`` that ends the comment at ``start``; whether that is a later line."""
    opening, at = line, start + 2
    while (end := line.text.find("*/", at)) < 0:
        at = 0
        after = next(following, None)
        if after is None:
            raise opening.error("this comment never ends", "close it with */", start, start + 2)
        line = after
    return line[end + 2 :], line is not opening


def with_numbers(line: Line) -> Line:
    """Character constants (``'a``, ``'a'``, ``'\\n'``) as decimal numbers."""
    if "'" not in line.text:
        return line
    changes = []
    for match in _CHARACTER.finditer(line.text):
        if match.group("alone"):
            raise line.error("a character constant without a character", None, match.start(), match.end())
        if match.group().startswith("'"):
            escape, plain = match.group("escape"), match.group("plain")
            value = _ESCAPES.get(escape, ord(escape)) if escape else ord(plain)
            changes.append((match.start(), match.end(), str(value)))
    return rewritten(line, changes)


def statements(line: Line) -> Iterator[Statement]:
    """The statements of a line; `AsmError` for a string that is not closed."""
    start = 0
    pieces: list[Line] = []
    inside_expansion = False
    for match in _SEPARATOR.finditer(line.text):
        if match.group("end"):
            pieces.append(line[start : match.start()])
            start = match.end()
            inside_expansion |= line.offsets[match.start()] in line.offsets[start : start + 1]
        elif match.group("odd"):
            raise line.error("this character is no blank", "write a space", match.start(), match.end())
        elif not _closed(match.group()):
            raise line.error("this string never ends", 'close it with "', match.start(), match.end())
    pieces.append(line[start:])
    for piece in pieces:
        if trimmed := piece.strip():
            shown = trimmed.text if inside_expansion or line.origin else trimmed.written()
            yield Statement(trimmed, shown)


def _closed(string: str) -> bool:
    body = string[1:-1]
    trailing = len(body) - len(body.rstrip("\\"))
    return len(string) > 1 and string.endswith('"') and trailing % 2 == 0
