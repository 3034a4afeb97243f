"""ELF relocatable objects and executables for x86-64 (gABI, psABI): what of them matters to a program."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import IO, TYPE_CHECKING

from verifier.object import headers, limits
from verifier.object.contents import Object, ObjectSection, ObjectSymbol, Relocation
from verifier.object.dwarf import line_numbers
from verifier.object.headers import ElfFile, Header
from verifier.object.relocate import TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from verifier.object.contents import Elsewhere

_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QIIq")
_BINDINGS = {0: "local", 1: "global", 2: "weak", 10: "global"}
_TYPES = {0: "notype", 1: "object", 2: "func", 3: "section", 4: "file", 6: "tls", 10: "ifunc"}
_UNDEFINED, _ABSOLUTE, _COMMON, _EXTENDED = 0, 0xFFF1, 0xFFF2, 0xFFFF
_LARGEST_ALIGNMENT = 1 << 30


def read_elf(stream: IO[bytes], size: int, name: str) -> Object:
    """The sections, symbols, relocations and line numbers of a file of ``size`` bytes; ``name`` is for messages.

    Raises AsmError for another architecture or kind of file and for whatever does not fit together.
    """
    return _Reader(ElfFile(stream, size, name)).object()


class _Reader:
    def __init__(self, elf: ElfFile) -> None:
        self._elf = elf
        self._relocatable = elf.type == headers.RELOCATABLE
        self._memory = 0

    def object(self) -> Object:
        elf = self._elf
        if any(s.name.startswith((".gnu.lto_", ".llvm.lto")) for s in elf.sections):
            hint = "compile it without -flto, or hand over what was linked"
            raise elf.error("holds a compiler's intermediate code (LTO)", hint)
        table = self._table()
        relocations = self._relocations(table.index)
        sections = {
            s.index: self._section(s, tuple(relocations.get(s.index, ())))
            for s in elf.sections
            if s.flags & headers.ALLOC
        }
        self._refuse_overlaps(sections)
        symbols = tuple(self._symbols(table, sections))
        self._refuse_lost_relocations(symbols)
        lines = line_numbers(elf, sections)
        return Object(elf.name, sections, symbols, lines, elf.type == headers.SHARED)

    def _table(self) -> Header:
        tables = [s for s in self._elf.sections if s.type == headers.SYMTAB]
        if len(tables) != 1:
            found = "no symbol table: it is stripped" if not tables else "more than one symbol table"
            hint = "the entries are found by their symbols; distributions keep them in packages of debug information"
            raise self._elf.error(f"has {found}", hint)
        return tables[0]

    # --- sections ---

    def _section(self, section: Header, relocations: tuple[Relocation, ...]) -> ObjectSection:
        self._memory += section.size
        if self._memory > limits.MEMORY_BYTES:
            raise self._elf.error(f"needs more than {limits.MEMORY_BYTES >> 20} MB of memory")
        if section.flags & headers.COMPRESSED:
            raise self._elf.error(f"has a compressed section that takes memory, {section.name}")
        if section.type == headers.NOBITS and section.flags & headers.EXECUTE and section.size:
            hint = "it may hold debug information only: hand over the file that this was taken from"
            raise self._elf.error(f"has code whose bytes are not in it, {section.name}", hint)
        alignment = max(1, section.alignment)
        if alignment & (alignment - 1) or alignment > _LARGEST_ALIGNMENT:
            what = f"aligns its section {section.name} to {alignment:#x}"
            raise self._elf.error(what, "alignments are powers of two, up to 1 GB")
        data = bytes(section.size) if section.type == headers.NOBITS else self._elf.data(section)
        return ObjectSection(
            section.name,
            data,
            alignment,
            bool(section.flags & headers.EXECUTE),
            bool(section.flags & headers.WRITE),
            None if self._relocatable else section.addr,
            relocations,
        )

    def _refuse_overlaps(self, sections: Mapping[int, ObjectSection]) -> None:
        placed = [(s.address, s.address + len(s.data), s.name) for s in sections.values() if s.address is not None]
        for (_, end, first), (start, _, second) in pairwise(sorted(p for p in placed if p[0] < p[1])):
            if start < end:
                raise self._elf.error(f"has two sections at one address: {first} and {second} overlap")

    # --- relocations ---

    def _relocations(self, table: int) -> dict[int, list[Relocation]]:
        """By section. An executable's are applied already."""
        found: dict[int, list[Relocation]] = {}
        for section in self._elf.sections if self._relocatable else ():
            if section.type in (headers.RELA, headers.REL) and self._is_wanted(section, table):
                found.setdefault(section.info, []).extend(self._entries(section))
        return found

    def _is_wanted(self, section: Header, table: int) -> bool:
        """Whether a section's relocations are for one that takes memory."""
        elf = self._elf
        if not 0 < section.info < len(elf.sections):
            raise elf.error(f"has relocations for a section that is not there ({section.name}: {section.info})")
        if not elf.sections[section.info].flags & headers.ALLOC:
            return False
        if section.type == headers.REL:
            raise elf.error(f"has relocations without addends in {section.name}: x86-64 has none such")
        if section.link != table:
            raise elf.error(f"has relocations by another symbol table in {section.name}")
        return True

    def _entries(self, section: Header) -> Iterator[Relocation]:
        for offset, kind, symbol, addend in self._elf.records(section, _RELOCATION, limits.RELOCATIONS, "relocations"):
            yield Relocation(offset, TYPES.get(kind, f"number {kind}"), symbol, addend)

    def _refuse_lost_relocations(self, symbols: tuple[ObjectSymbol, ...]) -> None:
        undefined = next((s.name for s in symbols if s.section == "undefined" and s.name), None)
        if self._relocatable and undefined and not any(s.type == headers.RELA for s in self._elf.sections):
            what = f"needs '{undefined}' from elsewhere, and nothing says at which places: its relocations are gone"
            raise self._elf.error(what, "do not strip them")

    # --- symbols ---

    def _symbols(self, table: Header, sections: Mapping[int, ObjectSection]) -> Iterator[ObjectSymbol]:
        elf = self._elf
        if not 0 < table.link < len(elf.sections):
            raise elf.error("is damaged: its symbols have no names")
        names = elf.data(elf.sections[table.link])
        for at, info, _, index, value, size in elf.records(table, _SYMBOL, limits.SYMBOLS, "symbols"):
            name, kind = elf.string(names, at), _TYPES.get(info & 15, "other")
            if index == _COMMON:
                raise elf.error(f"leaves the place of '{name}' to the linker", "compile with -fno-common")
            if index == _EXTENDED:
                raise elf.error("has more sections than symbols can name", "hand over fewer objects in one file")
            section, start = _place(index, sections), 0
            if isinstance(section, int):
                start = sections[section].address or 0
                name = sections[section].name if kind == "section" else name
            yield ObjectSymbol(name, section, value - start, size, kind, _BINDINGS.get(info >> 4, "other"))


def _place(index: int, sections: Mapping[int, ObjectSection]) -> int | Elsewhere:
    if index in sections:
        return index
    if index == _UNDEFINED:
        return "undefined"
    return "absolute" if index == _ABSOLUTE else "unloaded"
