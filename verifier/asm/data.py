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
_ESCAPE = re.compile(r"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]+)|(.))", re.DOTALL)
_PLAIN_ESCAPES = {"b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "\\": 92, '"': 34, "'": 39}


def values(assembly: Assembly, arguments: Line) -> list[tuple[Node, Line]]:
    """Expressions separated by commas, each with its text."""
    parts = list(split(arguments))
    for part in parts:
        if not part.text:
            raise arguments.error("a value is missing beside a comma")
    return [(parse(part, assembly), part) for part in parts]


def number(assembly: Assembly, part: Line, low: int, high: int) -> int:
    """A constant that must be known now and lie in ``low..high``."""
    value = assembly.constant(parse(part, assembly))
    if value is None:
        raise part.error("this must be a number that is known here")
    if not low <= value <= high:
        raise part.error(f"{value} is not in the range {low} to {high}")
    return value


def _integers(width: int, assembly: Assembly, _statement: Statement, arguments: Line) -> None:
    for node, part in values(assembly, arguments):
        value = assembly.constant(node)
        span = part.span()
        if value is not None:
            node = Const(value)
        assembly.emit(Datum(span, width, node=node))


def decode_string(part: Line) -> bytes:
    """The bytes of a quoted string; `AsmError` for an escape that GNU as does not know."""
    match = _STRING.fullmatch(part.text)
    if match is None:
        raise part.error('a string in "quotes" is needed')

    def plain(escape: re.Match[str]) -> str:
        octal, hexadecimal, other = escape.groups()
        if octal:
            return chr(0xDC00 + (int(octal, 8) & 0xFF)) if int(octal, 8) & 0x80 else chr(int(octal, 8) & 0xFF)
        if hexadecimal:
            byte = int(hexadecimal[-2:], 16)
            return chr(0xDC00 + byte) if byte & 0x80 else chr(byte)
        if other not in _PLAIN_ESCAPES:
            raise part.error(f"unknown escape '\\{other}' in a string")
        return chr(_PLAIN_ESCAPES[other])

    return _ESCAPE.sub(plain, match.group(1)).encode("utf-8", "surrogateescape")


def _strings(end: bytes, assembly: Assembly, _statement: Statement, arguments: Line) -> None:
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


def _align(
    power: bool, width: int, assembly: Assembly, statement: Statement, arguments: Line
) -> None:
    """``.balign N[, FILL[, MAX]]`` and ``.p2align``; ``width``: bytes of the fill value."""
    parts = _between(arguments, 1, 3)
    given = number(assembly, parts[0], 0, 63 if power else 1 << 40)
    alignment = 1 << given if power else max(given, 1)
    if alignment & (alignment - 1):
        raise parts[0].error("the alignment is not a power of two")
    if alignment > LARGEST_ALIGNMENT:
        raise parts[0].error(f"an alignment above {LARGEST_ALIGNMENT:#x} is not supported")
    fill = None if assembly.current.executable else bytes(1)
    if len(parts) > 1 and parts[1].text:
        value = number(assembly, parts[1], -(1 << (8 * width - 1)), (1 << (8 * width)) - 1)
        explicit = (value & ((1 << 8 * width) - 1)).to_bytes(width, "little")
        fill = None if assembly.current.executable and explicit in (b"\x00", b"\x90") else explicit
    limit = number(assembly, parts[2], 0, 1 << 40) if len(parts) > 2 and parts[2].text else 0
    assembly.current.alignment = max(assembly.current.alignment, alignment)
    assembly.emit(
        Pad(statement.span, alignment=alignment, limit=limit or alignment, fill=fill), variable=True
    )


def _org(assembly: Assembly, statement: Statement, arguments: Line) -> None:
    parts = _between(arguments, 1, 2)
    fill = number(assembly, parts[1], 0, 255) if len(parts) == 2 else 0
    assembly.emit(Org(statement.span, node=parse(parts[0], assembly), fill=fill), variable=True)


def _between(arguments: Line, least: int, most: int) -> list[Line]:
    parts = list(split(arguments))
    if not least <= len(parts) <= most or not parts[0].text:
        raise arguments.error(f"{least} to {most} values are needed, separated by commas")
    return parts


DATA: dict[str, Handler] = {
    **dict.fromkeys((".byte", ".1byte", ".dc.b"), partial(_integers, 1)),
    **dict.fromkeys((".word", ".value", ".short", ".hword", ".2byte", ".dc.w"), partial(_integers, 2)),
    **dict.fromkeys((".long", ".int", ".4byte", ".dc.l"), partial(_integers, 4)),
    **dict.fromkeys((".quad", ".8byte", ".dc.a"), partial(_integers, 8)),
    ".ascii": partial(_strings, b""),
    **dict.fromkeys((".asciz", ".string"), partial(_strings, b"\0")),
    **dict.fromkeys((".skip", ".space", ".zero"), _space),
    ".fill": _fill_directive,
    **dict.fromkeys((".align", ".balign"), partial(_align, False, 1)),
    ".balignw": partial(_align, False, 2),
    ".balignl": partial(_align, False, 4),
    ".p2align": partial(_align, True, 1),
    ".p2alignw": partial(_align, True, 2),
    ".p2alignl": partial(_align, True, 4),
    ".org": _org,
}
