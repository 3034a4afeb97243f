"""What ``objdump -dr`` prints, read by its bytes and relocations; the disassembled text is not looked at."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from verifier.errors import AsmError
from verifier.object import limits
from verifier.object.contents import Lines, Object, ObjectSection, ObjectSymbol, Relocation
from verifier.source import Span

if TYPE_CHECKING:
    from collections.abc import Iterator

_FORMAT = re.compile(r"\s*(?P<file>\S.*?):\s+file format (?P<format>\S+)\s*", re.ASCII)
_SECTION = re.compile(r"Disassembly of section (?P<name>.+):\s*", re.ASCII)
_LABEL = re.compile(r"(?P<address>[0-9a-f]{8,16}) <(?P<name>.+)>:\s*", re.ASCII)
#: An instruction, the rest of one, or, where a symbol says that it is data, bytes and what they are as text.
_CODE = re.compile(
    r"\s*(?P<address>[0-9a-f]{1,16}):\t(?P<bytes>(?:[0-9a-f]{2} )*[0-9a-f]{2})(?: *| *\t.*|  +.*)",
    re.ASCII,
)
_RELOCATION = re.compile(
    r"\s*(?P<address>[0-9a-f]{1,16}): (?P<type>R_X86_64_\w+)\s+(?P<symbol>\S+?)(?P<addend>[-+]0x[0-9a-f]{1,16})?\s*",
    re.ASCII,
)
#: Zeros, however many: up to the next line with an address.
_ZEROS = re.compile(r"\s*\.\.\.\s*")
#: Blank lines, and what ``-l`` adds.
_SKIPPED = re.compile(r"\s*|[^:]*\(\):\s*|\S+:\d+(?: \(discriminator \d+\))?\s*", re.ASCII)
_LARGEST_GAP = 1 << 20
#: At the end of a section nothing tells how many zeros there were: at least those of an instruction that is begun.
_LAST_ZEROS = 15
_HEAD = 20


@dataclass(slots=True)
class _Section:
    name: str
    start: int | None = None
    data: bytearray = field(default_factory=bytearray)
    relocations: list[Relocation] = field(default_factory=list)
    lines: list[tuple[int, tuple[str, int] | None]] = field(default_factory=list)
    zeros: bool = False

    def contents(self) -> bytes:
        return bytes(self.data) + bytes(_LAST_ZEROS if self.zeros else 0)


def is_listing(text: str) -> bool:
    """Whether a text begins as what objdump prints does."""
    return any(_FORMAT.fullmatch(line) for line in text.split("\n", _HEAD)[:_HEAD])


def read_listing(text: str, name: str) -> Object:
    """The code sections that a listing shows. Raises AsmError for a line that is none of objdump's."""
    return _Listing(name).read(text)


class _Listing:
    def __init__(self, name: str) -> None:
        self._name = name
        self._sections: list[_Section] = []
        self._symbols: dict[str, tuple[int, ObjectSymbol]] = {}
        self._wanted: list[tuple[_Section, re.Match[str]]] = []
        self._formats = 0

    def read(self, text: str) -> Object:
        for span in _lines(text, self._name):
            self._line(span)
        if not self._sections:
            raise AsmError(f"{self._name} lists no code", None, "write it with objdump -dr")
        for section, match in self._wanted:
            section.relocations.append(self._relocation(section, match))
        linked = any(s.start for s in self._sections)
        sections = {
            i: ObjectSection(s.name, s.contents(), 1, True, False, s.start if linked else None, tuple(s.relocations))
            for i, s in enumerate(self._sections)
        }
        symbols = tuple(symbol for _, symbol in self._symbols.values())
        return Object(self._name, sections, symbols, Lines({i: s.lines for i, s in enumerate(self._sections)}))

    def _line(self, span: Span) -> None:
        text = span.text
        if match := _CODE.fullmatch(text):
            self._code(int(match["address"], 16), bytes.fromhex(match["bytes"]), span)
        elif match := _RELOCATION.fullmatch(text):
            self._wanted.append((self._current(span), match))
        elif match := _LABEL.fullmatch(text):
            self._label(match, span)
        elif _ZEROS.fullmatch(text):
            self._current(span).zeros = True
        elif match := _SECTION.fullmatch(text):
            self._sections.append(_Section(match["name"]))
        elif match := _FORMAT.fullmatch(text):
            self._format(match["format"], span)
        elif not _SKIPPED.fullmatch(text):
            hint = "raw bytes and addresses must be shown, and no source text"
            raise AsmError("not a line that objdump -dr prints", span, hint)

    def _format(self, name: str, span: Span) -> None:
        self._formats += 1
        if name != "elf64-x86-64":
            raise AsmError(f"a listing of {name}", span, "elf64-x86-64 is read")
        if self._formats > 1:
            hint = "list one object at a time; program.object takes several files"
            raise AsmError("a second file in one listing", span, hint)

    def _current(self, span: Span) -> _Section:
        if not self._sections:
            raise AsmError("code before any 'Disassembly of section' line", span)
        return self._sections[-1]

    def _label(self, match: re.Match[str], span: Span) -> None:
        section, name = self._current(span), match["name"]
        address = int(match["address"], 16)
        if section.start is None:
            section.start = address
        if name in self._symbols:
            raise AsmError(f"a second label '{name}'", span, "list the code of one object at a time")
        symbol = ObjectSymbol(name, len(self._sections) - 1, address - section.start, 0, "func", "global")
        self._symbols[name] = len(self._symbols), symbol

    def _code(self, address: int, data: bytes, span: Span) -> None:
        section = self._current(span)
        if section.start is None:
            section.start = address
        gap = address - section.start - len(section.data)
        most = _LARGEST_GAP if section.zeros else 0
        if not 0 <= gap <= most or len(section.data) + gap > limits.LISTING_BYTES:
            raise AsmError(f"the code at {address:#x} does not follow what is before it", span)
        section.lines.append((address - section.start, (self._name, span.line)))
        section.data += bytes(gap) + data
        section.zeros = False

    def _relocation(self, section: _Section, match: re.Match[str]) -> Relocation:
        name, addend = match["symbol"], int(match["addend"] or "0", 16)
        if name not in self._symbols:
            known = next((i for i, s in enumerate(self._sections) if s.name == name), None)
            symbol = ObjectSymbol(name, "undefined", 0, binding="global")
            if known is not None:
                symbol = ObjectSymbol(name, known, 0, type="section")
            self._symbols[name] = len(self._symbols), symbol
        offset = int(match["address"], 16) - (section.start or 0)
        return Relocation(offset, match["type"], self._symbols[name][0], addend)


def _lines(text: str, name: str) -> Iterator[Span]:
    for number, line in enumerate(text.split("\n"), 1):
        shown = line.rstrip("\r")
        yield Span(name, number, 1, len(shown) + 1, shown)
