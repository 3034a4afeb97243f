"""``.macro``, ``.rept``, ``.irp`` and ``.irpc``: bodies, arguments, substitution, after GNU as's macro.c."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.asm.lines import rewritten
from verifier.errors import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from verifier.asm.lines import Line
    from verifier.asm.scrub import Statement
    from verifier.source import Span

REPEATS = (".rept", ".irp", ".irpc")

_NAME = re.compile(r"[A-Za-z_.$][\w.$]*", re.ASCII)
_USE = re.compile(r"\\(?:(?P<name>[A-Za-z_.$][\w.$]*)|(?P<count>@)|(?P<nothing>\(\)))", re.ASCII)
_KEYWORD = re.compile(r"([A-Za-z_.$][\w.$]*)\s*=", re.ASCII)
#: What keeps its distance from a neighbour of the same kind when GNU as removes blanks.
_WORD_CHARACTER = re.compile(r"[\w.$*%\-(\[{}\"\\]")


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    default: str = ""
    required: bool = False
    vararg: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Macro:
    name: str
    parameters: tuple[Parameter, ...]
    body: tuple[Statement, ...]
    defined: Span


def read_header(line: Line) -> tuple[str, tuple[Parameter, ...]]:
    """What follows ``.macro``: the name and the parameters."""
    match = _NAME.match(line.text)
    if match is None:
        raise line.error("a macro needs a name")
    rest = line[match.end() :].strip()
    if rest.text.startswith(","):
        rest = rest[1:].strip()
    parameters: list[Parameter] = []
    at = 0
    while at < len(rest):
        parameter, at = _parameter(rest, at)
        if any(p.name == parameter.name for p in parameters):
            raise rest.error(f"parameter '{parameter.name}' is named twice")
        parameters.append(parameter)
        after = _past_separator(rest.text, at)
        if after == len(rest) and rest.text[at:].strip():
            raise rest.error("a parameter is missing after the last comma", None, at)
        at = after
    if any(p.vararg for p in parameters[:-1]):
        raise rest.error("only the last parameter can take what is left over (:vararg)")
    return match.group().lower(), tuple(parameters)


_SEPARATOR = re.compile(r"[ \t]*,?[ \t]*")
_QUALIFIER = re.compile(r"\s*:\s*(\w+)", re.ASCII)
_DEFAULT = re.compile(r"\s*=\s*")


def _parameter(line: Line, at: int) -> tuple[Parameter, int]:
    match = _NAME.match(line.text, at)
    if match is None:
        raise line.error("a parameter needs a name", None, at)
    at = match.end()
    required = vararg = False
    if qualifier := _QUALIFIER.match(line.text, at):
        word = qualifier.group(1)
        if word not in ("req", "vararg"):
            raise line.error(f"unknown qualifier ':{word}'", ":req or :vararg", at, qualifier.end())
        required, vararg, at = word == "req", word == "vararg", qualifier.end()
    default = ""
    if equals := _DEFAULT.match(line.text, at):
        default, at = _argument(line.text, equals.end())
    return Parameter(match.group(), default, required, vararg), at


_BRACKETS = {"(": 1, "[": 1, ")": -1, "]": -1}


def _argument(text: str, at: int) -> tuple[str, int]:
    """One argument from ``at``: a string without its quotes, or text up to a comma or an outer blank."""
    if text[at : at + 1] == '"':
        return _string(text, at)
    start, open_brackets = at, 0
    while at < len(text) and text[at] != "," and (open_brackets or text[at] not in " \t"):
        if text[at] == '"':
            at = _string(text, at)[1]
            continue
        open_brackets = max(0, open_brackets + _BRACKETS.get(text[at], 0))
        at += 1
    return text[start:at], at


def _string(text: str, at: int) -> tuple[str, int]:
    """The content of the string at ``at`` (a doubled quote stands for one) and where it ends."""
    result = []
    at += 1
    while at < len(text):
        if text[at] == "\\" and at + 1 < len(text):
            result.append(text[at : at + 2])
            at += 2
        elif text[at] != '"':
            result.append(text[at])
            at += 1
        elif text[at + 1 : at + 2] == '"':
            result.append('"')
            at += 2
        else:
            return "".join(result), at + 1
    return "".join(result), at


def compact(text: str) -> str:
    """Blanks removed where GNU as removes them: beside operators, outside strings."""
    parts = re.split(r'("(?:\\.|[^"\\])*")', text)
    for i in range(0, len(parts), 2):
        words = re.split(r"\s+", parts[i])
        kept = words[0]
        for word in words[1:]:
            before, after = kept[-1:] or (parts[i - 1][-1:] if i else ""), word[:1]
            if not word and i + 1 < len(parts):
                after = '"'
            separate = before and after and _WORD_CHARACTER.match(before) and _WORD_CHARACTER.match(after)
            kept += (" " if separate else "") + word
        parts[i] = kept
    return "".join(parts).strip()


def bind(macro: Macro, call: Line) -> dict[str, str]:
    """The arguments of a call by parameter name; `AsmError` for too many, unknown or missing ones."""
    text = compact(call.text)
    given: dict[str, str] = {}
    at = position = 0
    keywords = False
    while at < len(text):
        keyword = _KEYWORD.match(text, at)
        if keyword:
            name = keyword.group(1)
            if name not in {p.name for p in macro.parameters}:
                raise call.error(
                    f"macro '{macro.name}' has no parameter '{name}'",
                    nearest(name, [p.name for p in macro.parameters]),
                )
            given[name], at = _argument(text, keyword.end())
            keywords = True
        elif keywords:
            raise call.error("an argument without a name follows one with a name")
        else:
            if position >= len(macro.parameters):
                raise call.error(
                    f"macro '{macro.name}' takes {len(macro.parameters)} arguments, here are more",
                    "an argument with commas or blanks needs quotes",
                )
            parameter = macro.parameters[position]
            position += 1
            if parameter.vararg:
                given[parameter.name], at = text[at:], len(text)
            else:
                given[parameter.name], at = _argument(text, at)
        at = _past_separator(text, at)
    return _with_defaults(macro, given, call)


def _past_separator(text: str, at: int) -> int:
    """After a comma with its blanks, or the blanks alone."""
    match = _SEPARATOR.match(text, at)
    return match.end() if match else at


def _with_defaults(macro: Macro, given: Mapping[str, str], call: Line) -> dict[str, str]:
    bound = {}
    for parameter in macro.parameters:
        value = given.get(parameter.name, "") or parameter.default
        if parameter.required and not value:
            raise call.error(f"macro '{macro.name}' needs a value for '{parameter.name}'")
        bound[parameter.name] = value
    return bound


def substitute(line: Line, values: Mapping[str, str], count: int, origin: Span | None) -> Line:
    """The line with ``\\name``, ``\\@`` and ``\\()`` replaced; unknown names stay as they are."""
    changes = []
    for match in _USE.finditer(line.text):
        name = match.group("name")
        if name is None:
            changes.append((match.start(), match.end(), str(count) if match.group("count") else ""))
        elif name in values:
            changes.append((match.start(), match.end(), values[name]))
    return rewritten(line, changes, origin)


def expansion(
    body: Sequence[Statement], values: Mapping[str, str], count: int, origin: Span
) -> Iterator[Line]:
    """The statements of a body, arguments in place, as lines that know where they came from."""
    for statement in body:
        yield substitute(statement.line, values, count, origin)


def items(line: Line) -> list[str]:
    """The values of ``.irp``: separated by commas or blanks."""
    text = compact(line.text)
    found, at = [], 0
    while at < len(text):
        value, at = _argument(text, at)
        found.append(value)
        at = _past_separator(text, at)
    return found


def characters(line: Line) -> list[str]:
    """The values of ``.irpc``: every character that is no blank, every one inside a string."""
    text = line.text
    if text.startswith('"'):
        return list(_string(text, 0)[0])
    return [c for c in text if not c.isspace()]


def nested_lines(body: Sequence[Statement], times: Callable[[Statement], int]) -> int:
    """About how many lines a body gives once; ``times`` tells how often a nested repeat runs."""
    stack: list[list[int]] = [[1, 0]]
    for statement in body:
        word = statement.line.text.split(None, 1)[0].lower()
        if word in REPEATS:
            stack.append([times(statement), 0])
        elif word == ".endr" and len(stack) > 1:
            count, lines = stack.pop()
            stack[-1][1] += 1 + count * lines
        else:
            stack[-1][1] += 1
    return stack[0][1]
