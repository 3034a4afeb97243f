"""Macros of the C preprocessor: definition and expansion (hide sets after Prosser)."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from verifier.asm.budget import DEPTH
from verifier.asm.lines import Line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verifier.asm.budget import Budget
    from verifier.errors import AsmError

_TOKEN = re.compile(
    r"""(?P<space>\s+) | (?P<name>[A-Za-z_]\w*) | (?P<number>\.?\d[\w.]*)
      | (?P<string>"(?:\\.|[^"\\])*"? | '(?:\\.|[^'\\])*'?) | (?P<mark>\#\#|.)""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_WORD = re.compile(r"[A-Za-z_]\w*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Token:
    """A preprocessing token; ``hidden`` are the macros that may not be expanded in it again."""

    text: str
    kind: str
    offset: int
    hidden: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class CppMacro:
    """``parameters`` is None for an object-like macro; the last one is variadic if ``variadic``."""

    name: str
    body: tuple[Token, ...]
    parameters: tuple[str, ...] | None = None
    variadic: bool = False

    def same_as(self, other: CppMacro) -> bool:
        mine, theirs = ([t.text for t in m.body] for m in (self, other))
        return (mine, self.parameters) == (theirs, other.parameters)


def tokens(line: Line) -> list[Token]:
    return [
        Token(m.group(), m.lastgroup or "mark", line.offsets[m.start()]) for m in _TOKEN.finditer(line.text)
    ]


def stripped(body: Sequence[Token]) -> tuple[Token, ...]:
    """Without space at the ends; runs of space within count as one."""
    start, end = 0, len(body)
    while start < end and body[start].kind == "space":
        start += 1
    while end > start and body[end - 1].kind == "space":
        end -= 1
    return tuple(replace(t, text=" ") if t.kind == "space" else t for t in body[start:end])


class CppMacros:
    """The macros now defined, and the expansion of lines by them."""

    def __init__(self, budget: Budget) -> None:
        self._macros: dict[str, CppMacro] = {}
        self._budget = budget
        self._hidden: dict[tuple[frozenset[str], str], frozenset[str]] = {}

    def copy(self) -> CppMacros:
        other = CppMacros(self._budget)
        other._macros = dict(self._macros)
        return other

    def __contains__(self, name: str) -> bool:
        return name in self._macros

    def get(self, name: str) -> CppMacro | None:
        return self._macros.get(name)

    def define(self, macro: CppMacro) -> None:
        self._macros[macro.name] = macro

    def define_text(self, name: str, text: str) -> None:
        """An object-like macro from outside the text."""
        body = [Token(m.group(), m.lastgroup or "mark", 0) for m in _TOKEN.finditer(text)]
        self.define(CppMacro(name, stripped(body)))

    def undefine(self, name: str) -> None:
        self._macros.pop(name, None)

    def expand_line(self, line: Line) -> Line:
        """The line with every macro replaced; `AsmError` for a broken use or one without end."""
        if self._macros.keys().isdisjoint(_WORD.findall(line.text)):
            return line
        source = tokens(line)
        expanded = self.expand(source, line)
        as_written = {id(t) for t in source}
        text = "".join(t.text for t in expanded)
        offsets = [o for t in expanded for o in _offsets(t, id(t) in as_written)]
        return Line(text, [*offsets, line.offsets[-1]], line.source, line.origin)

    def expand(self, source: Sequence[Token], line: Line, depth: int = 0) -> list[Token]:
        """The tokens after full expansion; ``line`` is for positions."""
        if depth > DEPTH:
            raise line.error(f"macro uses are nested more than {DEPTH} deep")
        pending, done = deque(source), list[Token]()
        while pending:
            token = pending.popleft()
            macro = self._macros.get(token.text) if token.kind == "name" else None
            if macro is None or token.text in token.hidden:
                done.append(token)
                continue
            if macro.parameters is None:
                body, hidden = list(macro.body), token.hidden
            else:
                found = _arguments(pending, token, line)
                if found is None:
                    done.append(token)
                    continue
                arguments, hidden = found
                body = self._substitute(macro, arguments, token, line, depth)
            self._charge(body, line)
            hide = self._hide(hidden, macro.name)
            pending.extendleft(
                Token(t.text, t.kind, token.offset, t.hidden | hide if t.hidden else hide)
                for t in reversed(_paste(body))
            )
        return done

    def _hide(self, hidden: frozenset[str], name: str) -> frozenset[str]:
        """``hidden`` and ``name``, the same object every time: copies would fill memory."""
        key = (hidden, name)
        if key not in self._hidden:
            self._hidden[key] = hidden | {name}
        return self._hidden[key]

    def _charge(self, produced: Sequence[Token], line: Line) -> None:
        self._budget.macro_text(sum(len(t.text) for t in produced), line)

    def _substitute(
        self, macro: CppMacro, arguments: list[list[Token]], token: Token, line: Line, depth: int
    ) -> list[Token]:
        bound = _bind(macro, arguments, token, line)
        result: list[Token] = []
        body = macro.body
        for i, part in enumerate(body):
            if part.text not in bound or part.kind != "name":
                result.append(part)
            elif _neighbour(body, i, -1) == "#":
                _drop_mark(result)
                result.append(Token(_quoted(bound[part.text]), "string", token.offset))
            elif "##" in (_neighbour(body, i, -1), _neighbour(body, i, 1)):
                result += stripped(bound[part.text])
            else:
                argument = self.expand(stripped(bound[part.text]), line, depth + 1)
                self._charge(argument, line)
                result += argument
        return result


def _quoted(argument: Sequence[Token]) -> str:
    """The string that ``#`` makes of an argument: quotes and backslashes of strings within it are escaped."""
    texts = (
        t.text.replace("\\", "\\\\").replace('"', '\\"') if t.kind == "string" else t.text
        for t in stripped(argument)
    )
    return '"' + "".join(texts) + '"'


def _offsets(token: Token, original: bool) -> range | list[int]:
    """Where the characters of a token stand: one after the other if the token is as written."""
    if original:
        return range(token.offset, token.offset + len(token.text))
    return [token.offset] * len(token.text)


def _arguments(
    pending: deque[Token], name: Token, line: Line
) -> tuple[list[list[Token]], frozenset[str]] | None:
    """Takes ``( … )`` off the front; None if the next token is no parenthesis."""
    following = next((i for i, t in enumerate(pending) if t.kind != "space"), None)
    if following is None or pending[following].text != "(":
        return None
    for _ in range(following + 1):
        pending.popleft()
    arguments: list[list[Token]] = [[]]
    nesting = 0
    while pending:
        token = pending.popleft()
        if token.text == ")" and not nesting:
            return arguments, name.hidden & token.hidden
        nesting += {"(": 1, ")": -1}.get(token.text, 0)
        if token.text == "," and not nesting:
            arguments.append([])
        else:
            arguments[-1].append(token)
    raise line.error(f"the arguments of {name.text} are not closed on this line", "join the lines with \\")


def _bind(macro: CppMacro, arguments: list[list[Token]], token: Token, line: Line) -> dict[str, list[Token]]:
    names = macro.parameters or ()
    if not names and len(arguments) == 1 and not stripped(arguments[0]):
        return {}
    if macro.variadic and len(arguments) >= len(names) - 1:
        fixed, rest = arguments[: len(names) - 1], arguments[len(names) - 1 :]
        comma = Token(",", "mark", token.offset)
        tail = [t for i, part in enumerate(rest) for t in ([comma] if i else []) + part]
        arguments = [*fixed, tail]
    if len(arguments) != len(names):
        raise _wrong_count(macro, len(arguments), line)
    return dict(zip(names, arguments, strict=True))


def _wrong_count(macro: CppMacro, given: int, line: Line) -> AsmError:
    return line.error(f"{macro.name} takes {len(macro.parameters or ())} arguments, not {given}")


def _neighbour(body: Sequence[Token], index: int, step: int) -> str:
    index += step
    while 0 <= index < len(body) and body[index].kind == "space":
        index += step
    return body[index].text if 0 <= index < len(body) else ""


def _drop_mark(result: list[Token]) -> None:
    while result and result.pop().text != "#":
        pass


def _paste(body: list[Token]) -> list[Token]:
    """Joins what stands on both sides of ``##``."""
    if not any(t.text == "##" for t in body):
        return body
    result: list[Token] = []
    joining = False
    for token in body:
        if token.text == "##":
            while result and result[-1].kind == "space":
                result.pop()
            joining = True
        elif joining and token.kind != "space":
            left = result.pop() if result else Token("", "mark", token.offset)
            text = left.text + token.text
            match = _TOKEN.fullmatch(text)
            result.append(Token(text, (match and match.lastgroup) or "mark", token.offset, left.hidden))
            joining = False
        elif not joining:
            result.append(token)
    return result
