"""Directives that put data into a section: integers, strings, fills, alignment."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from verifier.asm.budget import LARGEST_ALIGNMENT, SECTION_BYTES
from verifier.asm.expression import Const, parse
from verifier.asm.operands import split
from verifier.asm.sections import Bytes, Datum, Fill, Org, Pad

if TYPE_CHECKING:
    from collections.abc import Callable

    from verifier.asm.expression import Node
    from verifier.asm.lines import Line
    from verifier.asm.scrub import Statement
    from verifier.asm.state import Assembly

    Handler = Callable[[Assembly, Statement, Line], None]

_STRING = re.compile(r'"((?:\\.|[^"\\])*)"', re.DOTALL)
_ESCAPE = re.compile(r"\\(?:([0-9]{1,3})|[xX]([0-9a-fA-F]+)|(.))", re.DOTALL)
_NOP = 0x90
_PLAIN_ESCAPES = {"b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "\\": 92, '"': 34, "'": 39}


def number(assembly: Assembly, part: Line, low: int, high: int) -> int:
    """A constant that must be known now and lie in ``low..high``."""
    value = assembly.constant(parse(part, assembly))
    if value is None:
        raise part.error("this must be a number that is known here")
    if not low <= value <= high:
        raise part.error(f"{value} is not in the range {low} to {high}")
    return value


def _integers(width: int, assembly: Assembly, _statement: Statement, arguments: Line) -> None:
    for part in split(arguments):
        if not part.text:
            raise arguments.error("a value is missing beside a comma")
        node = parse(part, assembly)
        value = assembly.constant(node)
        assembly.emit(Datum(part.span(), width, node=node if value is None else Const(value)))


def decode_string(part: Line) -> bytes:
    """The bytes of a quoted string; `AsmError` for an escape that GNU as does not know."""
    match = _STRING.fullmatch(part.text)
    if match is None:
        raise part.error('a string in "quotes" is needed')

    def plain(escape: re.Match[str]) -> str:
        digits, hexadecimal, other = escape.groups()
        if digits:  # GNU as takes 8 and 9 for digits too, with their value
            return _byte(sum(int(d) * 8**i for i, d in enumerate(reversed(digits))))
        if hexadecimal:
            return _byte(int(hexadecimal[-2:], 16))
        if other not in _PLAIN_ESCAPES:
            raise part.error(f"unknown escape '\\{other}' in a string")
        return chr(_PLAIN_ESCAPES[other])

    return _ESCAPE.sub(plain, match.group(1)).encode("utf-8", "surrogateescape")


def _byte(value: int) -> str:
    """A character that encodes as this one byte."""
    return chr(0xDC00 + (value & 0xFF)) if value & 0x80 else chr(value & 0x7F)


def _strings(end: bytes, assembly: Assembly, statement: Statement, arguments: Line) -> None:
    if not arguments.text:
        raise statement.line.error("a string is missing")
    for part in split(arguments):
        data = decode_string(part) + end
        assembly.emit(Bytes(part.span(), len(data), data=data))


def _space(assembly: Assembly, statement: Statement, arguments: Line) -> None:
    """``.skip COUNT[, FILL]``."""
    parts = _between(arguments, 1, 2)
    byte = number(assembly, parts[1], -128, 255) & 0xFF if len(parts) == 2 else 0
    _fill(assembly, statement, parse(parts[0], assembly), bytes([byte]))


def _fill_directive(assembly: Assembly, statement: Statement, arguments: Line) -> None:
    """``.fill REPEAT[, SIZE[, VALUE]]``: at most 8 bytes a time, of which the value gives four."""
    parts = _between(arguments, 1, 3)
    size = min(number(assembly, parts[1], 0, 1 << 31), 8) if len(parts) > 1 else 1
    value = number(assembly, parts[2], -(1 << 63), (1 << 63) - 1) if len(parts) > 2 else 0
    low = (value & 0xFFFF_FFFF).to_bytes(4, "little")
    _fill(assembly, statement, parse(parts[0], assembly), (low + bytes(4))[:size])


def _fill(assembly: Assembly, statement: Statement, node: Node, unit: bytes) -> None:
    count = assembly.constant(node)
    if count is None:
        assembly.emit(Fill(statement.span, node=node, unit=unit, known=False), variable=True)
        return
    if not 0 <= count <= SECTION_BYTES:
        raise statement.line.error(f"a count of {count} is not in the range 0 to {SECTION_BYTES}")
    assembly.emit(Fill(statement.span, count * len(unit), node=Const(count), unit=unit, known=True))


def _align(power: bool, assembly: Assembly, statement: Statement, arguments: Line) -> None:
    """``.balign N[, FILL[, MAX]]`` and, with the logarithm of N, ``.p2align``."""
    parts = _between(arguments, 1, 3)
    given = number(assembly, parts[0], 0, 63 if power else 1 << 40)
    alignment = 1 << given if power else max(given, 1)
    if alignment & (alignment - 1):
        raise parts[0].error("the alignment is not a power of two")
    if alignment > LARGEST_ALIGNMENT:
        raise parts[0].error(f"an alignment above {LARGEST_ALIGNMENT:#x} is not supported")
    if len(parts) == 2 and not parts[1].text:
        raise arguments.error("a value is missing beside a comma")
    section = assembly.current
    fill = None if section.executable else 0
    if len(parts) > 1 and parts[1].text:
        byte = number(assembly, parts[1], -128, 255) & 0xFF
        fill = None if section.executable and byte == _NOP else byte
    limit = number(assembly, parts[2], 0, 1 << 40) if len(parts) > 2 and parts[2].text else 0
    section.alignment = max(section.alignment, alignment)
    pad = Pad(
        statement.span,
        alignment=alignment,
        limit=limit or alignment,
        fill=fill,
    )
    assembly.emit(pad, variable=True)


def _org(assembly: Assembly, statement: Statement, arguments: Line) -> None:
    parts = _between(arguments, 1, 2)
    fill = number(assembly, parts[1], 0, 255) if len(parts) == 2 else 0
    assembly.emit(Org(statement.span, node=parse(parts[0], assembly), fill=fill), variable=True)


def move_to(assembly: Assembly, statement: Statement, expression: Line) -> None:
    """``. = expression``, which is ``.org``."""
    assembly.emit(Org(statement.span, node=parse(expression, assembly), fill=0), variable=True)


def _between(arguments: Line, least: int, most: int) -> list[Line]:
    parts = list(split(arguments))
    if not least <= len(parts) <= most or not parts[0].text:
        raise arguments.error(f"{least} to {most} values are needed, separated by commas")
    return parts


DATA: dict[str, Handler] = {
    **dict.fromkeys((".byte", ".dc.b"), partial(_integers, 1)),
    **dict.fromkeys((".word", ".value", ".short", ".hword", ".2byte", ".dc.w"), partial(_integers, 2)),
    **dict.fromkeys((".long", ".int", ".4byte", ".dc.l"), partial(_integers, 4)),
    **dict.fromkeys((".quad", ".8byte", ".dc.a"), partial(_integers, 8)),
    ".ascii": partial(_strings, b""),
    **dict.fromkeys((".asciz", ".string"), partial(_strings, b"\0")),
    **dict.fromkeys((".skip", ".space", ".zero"), _space),
    ".fill": _fill_directive,
    **dict.fromkeys((".align", ".balign"), partial(_align, False)),
    ".p2align": partial(_align, True),
    ".org": _org,
}
