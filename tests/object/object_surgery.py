"""Damage done on purpose to an object that GNU as has made; where its fields are, pyelftools tells."""

from __future__ import annotations

import io
import struct

from elftools.elf.elffile import ELFFile

#: Offsets of fields of the ELF header, and of a section header, with their sizes.
HEADER = {"class": (4, 1), "data": (5, 1), "type": (16, 2), "machine": (18, 2), "shoff": (40, 8), "shentsize": (58, 2),
          "shnum": (60, 2), "shstrndx": (62, 2)}  # fmt: skip
SECTION = {"name": (0, 4), "type": (4, 4), "flags": (8, 8), "addr": (16, 8), "offset": (24, 8), "size": (32, 8),
           "link": (40, 4), "info": (44, 4), "align": (48, 8)}  # fmt: skip


def with_header(data: bytes, field: str, value: int) -> bytes:
    return _with(data, HEADER[field][0], HEADER[field][1], value)


def with_section(data: bytes, name: str, field: str, value: int) -> bytes:
    """A field of the header of a section."""
    elf = ELFFile(io.BytesIO(data))
    index = elf.get_section_index(name)
    start = elf["e_shoff"] + index * elf["e_shentsize"]
    return _with(data, start + SECTION[field][0], SECTION[field][1], value)


def with_contents(data: bytes, name: str, offset: int, new: bytes) -> bytes:
    """Bytes of a section."""
    at = ELFFile(io.BytesIO(data)).get_section_by_name(name)["sh_offset"] + offset
    return data[:at] + new + data[at + len(new) :]


def with_relocation(data: bytes, number: int, section: str = ".rela.text", **fields: int) -> bytes:
    """Fields ``offset``, ``type``, ``symbol`` of a relocation."""
    for name, value in fields.items():
        at, size = {"offset": (0, 8), "type": (8, 4), "symbol": (12, 4)}[name]
        data = with_contents(data, section, 24 * number + at, value.to_bytes(size, "little"))
    return data


def with_symbol(data: bytes, name: str, **fields: int) -> bytes:
    """Fields ``name_at``, ``section``, ``value`` of a symbol."""
    table = ELFFile(io.BytesIO(data)).get_section_by_name(".symtab")
    number = next(i for i, s in enumerate(table.iter_symbols()) if s.name == name)
    for field, value in fields.items():
        at, size = {"name_at": (0, 4), "section": (6, 2), "value": (8, 8)}[field]
        data = with_contents(data, ".symtab", 24 * number + at, value.to_bytes(size, "little"))
    return data


def _with(data: bytes, at: int, size: int, value: int) -> bytes:
    struct.unpack_from(f"<{size}B", data, at)
    return data[:at] + value.to_bytes(size, "little") + data[at + size :]
