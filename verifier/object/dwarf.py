"""Which line of a source text an instruction comes from, if the object has DWARF line numbers (DWARF 5, 6.2).

Places only serve messages, so what cannot be read is left out: an instruction is then told by its symbol.
"""

from __future__ import annotations

import struct
import zlib
from bisect import bisect_right
from typing import TYPE_CHECKING

from verifier.object import headers, limits
from verifier.object.contents import Lines
from verifier.object.fields import Fields
from verifier.object.line_program import Context, units

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verifier.object.contents import ObjectSection
    from verifier.object.headers import ElfFile, Header

_RELOCATION = struct.Struct("<QIIq")
_SYMBOL_SIZE = 24
_COMPRESSION = struct.Struct("<IIQQ")
_ZLIB = 1
Rows = dict[int, list[tuple[int, tuple[str, int] | None]]]


def line_numbers(elf: ElfFile, sections: Mapping[int, ObjectSection]) -> Lines:
    """The places of all rows of the line tables; none where there are no such tables, or more than fits."""
    found = {s.name: s for s in elf.sections if s.name.startswith(".debug_") and not s.flags & headers.ALLOC}
    table = found.get(".debug_line")
    if table is None:
        return Lines()
    data, line_strings, strings = (_contents(elf, found.get(".debug_" + n)) for n in ("line", "line_str", "str"))
    fields = _relocations(elf, table)
    context = Context(line_strings, strings, {at: addend for at, (_, addend) in fields.items()})
    rows: Rows = {}
    starts = sorted((s.address, i) for i, s in sections.items() if s.address is not None and s.data)
    try:
        for sequence in units(Fields(data), context):
            section = fields[sequence.field][0] if sequence.field in fields else None
            for address, place in sequence.rows:
                index, offset = (section, address) if section is not None else _placed(address, starts)
                rows.setdefault(index, []).append((offset, place))
    except ValueError:
        return Lines()
    return Lines({index: _sorted(found) for index, found in rows.items()})


def _sorted(rows: list[tuple[int, tuple[str, int] | None]]) -> list[tuple[int, tuple[str, int] | None]]:
    """In order; where one sequence ends and another begins, the one that begins counts."""
    return sorted(rows, key=lambda row: (row[0], row[1] is not None))


def _contents(elf: ElfFile, section: Header | None) -> bytes:
    """A section of debug information; empty for one that is missing, or larger than is read."""
    if section is None or section.size > limits.DEBUG_BYTES or section.type == headers.NOBITS:
        return b""
    data = elf.data(section)
    if not section.flags & headers.COMPRESSED:
        return data
    if len(data) < _COMPRESSION.size or _COMPRESSION.unpack_from(data)[0] != _ZLIB:
        return b""
    try:
        return zlib.decompressobj().decompress(data[_COMPRESSION.size :], limits.DEBUG_BYTES)
    except zlib.error:
        return b""


def _relocations(elf: ElfFile, table: Header) -> dict[int, tuple[int, int]]:
    """Where in the line table something is written when the object is linked: the section meant, and S + A."""
    found: dict[int, tuple[int, int]] = {}
    for section in elf.sections if elf.type == headers.RELOCATABLE else ():
        if section.type != headers.RELA or section.info != table.index or section.link >= len(elf.sections):
            continue
        symbols = elf.data(elf.sections[section.link])
        for offset, _, symbol, addend in elf.records(section, _RELOCATION, limits.RELOCATIONS, "relocations"):
            place = Fields(symbols, _SYMBOL_SIZE * symbol + 6)
            try:
                index, value = place.number(2), place.number(8)
            except ValueError:
                continue
            found[offset] = (index, value + addend)
    return found


def _placed(address: int, starts: list[tuple[int, int]]) -> tuple[int, int]:
    index = bisect_right(starts, (address, 1 << 32)) - 1
    return (starts[index][1], address - starts[index][0]) if index >= 0 else (-1, address)
