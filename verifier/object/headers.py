"""The ELF header and the section headers (gABI, "ELF Header", "Sections"), each field looked at before it is believed.

Read with `struct`: of a whole kernel's hundred thousand symbols as of a file that somebody has damaged on purpose, what
it costs is bounded by the file's size.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import IO

from verifier.errors import AsmError
from verifier.object import limits
from verifier.object.fields import name_of

MAGIC = b"\x7fELF"
#: sh_flags.
WRITE, ALLOC, EXECUTE, COMPRESSED = 1, 2, 4, 0x800
#: sh_type.
SYMTAB, RELA, NOBITS, REL = 2, 4, 8, 9
#: e_type.
RELOCATABLE, EXECUTABLE, SHARED = 1, 2, 3

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_KINDS = {0: "no type", 4: "a core dump"}
_MACHINES = {3: "i386", 8: "MIPS", 20: "PowerPC", 21: "PowerPC", 22: "S/390", 40: "ARM", 183: "AArch64", 243: "RISC-V",
             247: "BPF", 252: "CSKY", 258: "LoongArch"}  # fmt: skip
_X86_64 = 62
_EXTENDED = 0xFFFF
_LONGEST_NAME = 4096


@dataclass(frozen=True, slots=True)
class Header:
    """A section header; the names of the fields are the gABI's without ``sh_``."""

    index: int
    name: str
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int


class ElfFile:
    """An ELF file of ``size`` bytes for x86-64; ``name`` is for messages.

    Raises AsmError for another architecture or kind of file, and for headers that lead out of the file.
    """

    def __init__(self, stream: IO[bytes], size: int, name: str) -> None:
        self._stream, self._size, self.name = stream, size, name
        head = self._bytes(0, _HEADER.size, "its header")
        ident, self.type, machine, _, _, _, self._table, _, _, _, _, entry, count, names = _HEADER.unpack(head)
        self._check(ident, machine)
        self.sections = self._sections(entry, count, names)

    def error(self, what: str, hint: str | None = None) -> AsmError:
        return AsmError(f"{self.name} {what}", None, hint)

    def _check(self, ident: bytes, machine: int) -> None:
        bits, ends = {1: "32", 2: "64"}.get(ident[4], "?"), {1: "little", 2: "big"}.get(ident[5], "?")
        if machine != _X86_64 or (bits, ends) != ("64", "little"):
            shown = "x86-64" if machine == _X86_64 else _MACHINES.get(machine, f"machine number {machine}")
            hint = "x86-64 is read, 64 bits, little-endian"
            raise self.error(f"holds code for {shown}, {bits} bits, {ends}-endian", hint)
        if self.type not in (RELOCATABLE, EXECUTABLE, SHARED):
            kind = _KINDS.get(self.type, f"type number {self.type}")
            raise self.error(f"is neither an object file nor an executable, but has {kind}")

    def _sections(self, entry: int, count: int, names: int) -> list[Header]:
        if not self._table:
            raise self.error("has no section headers", "they tell what is code and what is data: do not strip them")
        if entry != _SECTION.size:
            raise self.error(f"is damaged: its section headers have {entry} bytes each")
        first = _SECTION.unpack(self._bytes(self._table, entry, "its section headers"))
        count = count or first[5]
        names = first[6] if names == _EXTENDED else names
        if count > limits.SECTIONS:
            raise self.error(f"has {count:,} sections, more than {limits.SECTIONS:,}")
        data = self._bytes(self._table, entry * count, "its section headers")
        raw = list(_SECTION.iter_unpack(data))
        if not 0 < names < count:
            raise self.error("is damaged: its sections have no names")
        strings = self._bytes(raw[names][4], raw[names][5], "the names of its sections")
        return [Header(i, self.string(strings, fields[0]), *fields[1:9]) for i, fields in enumerate(raw)]

    def string(self, strings: bytes, at: int) -> str:
        """A name in a string table."""
        end = strings.find(b"\0", at, at + _LONGEST_NAME)
        if end < 0:
            raise self.error("is damaged: a name has no end")
        return name_of(strings[at:end])

    def data(self, section: Header) -> bytes:
        """The section's bytes in the file, all of them."""
        if section.type == NOBITS:
            raise self.error(f"is damaged: its section {section.name} has no contents")
        return self._bytes(section.offset, section.size, f"its section {section.name}")

    def records(self, section: Header, layout: struct.Struct, most: int, what: str) -> list[tuple[int, ...]]:
        """A section's fixed-size entries."""
        if section.size % layout.size:
            raise self.error(f"is damaged: {section.name} ends within an entry")
        if section.size > most * layout.size:
            raise self.error(f"has more than {most:,} {what}")
        return list(layout.iter_unpack(self.data(section)))

    def _bytes(self, offset: int, size: int, what: str) -> bytes:
        if offset + size > self._size:
            raise self.error(f"is cut off: {what} ends after the file")
        self._stream.seek(offset)
        data = self._stream.read(size)
        if len(data) != size:
            raise self.error("became shorter while it was read")
        return data
