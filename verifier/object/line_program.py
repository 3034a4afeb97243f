"""The line number programs of a ``.debug_line`` section (DWARF 5, 6.2), versions 2 to 5."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from posixpath import isabs
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from verifier.object.fields import Fields

_FILES = 20_000
_ROWS = 1_000_000
#: DW_FORM codes that a table of files may use -> bytes, where it is always the same number.
_FIXED = {0x05: 2, 0x06: 4, 0x07: 8, 0x0B: 1, 0x1E: 16}
_FORM_STRING, _FORM_UDATA, _FORM_STRP, _FORM_LINE_STRP, _FORM_BLOCK = 0x08, 0x0F, 0x0E, 0x1F, 0x09
_PATH, _DIRECTORY = 1, 2


@dataclass(frozen=True, slots=True)
class Context:
    """What a line table refers to: two string tables, and fields that are relocated, by offset."""

    line_strings: bytes
    strings: bytes
    relocated: Mapping[int, int]


@dataclass(slots=True)
class Sequence:
    """Rows (address, place) with addresses going up; the last place is None. ``field``: where its start is written."""

    field: int
    rows: list[tuple[int, tuple[str, int] | None]]


@dataclass(frozen=True, slots=True)
class _Unit:
    version: int
    shortest: int
    line_base: int
    line_range: int
    operand_counts: tuple[int, ...]
    files: tuple[str, ...]

    def file(self, index: int) -> str:
        """Files count from 0 in version 5, from 1 before."""
        index -= 0 if self.version >= 5 else 1
        return self.files[index] if 0 <= index < len(self.files) else "?"


def units(data: Fields, context: Context) -> Iterator[Sequence]:
    """The sequences of all programs. Raises ValueError for what is damaged or has no end."""
    while data:
        length = data.number(4)
        wide = length == 0xFFFFFFFF
        if wide:
            length = data.number(8)
        end = data.at + length
        if end > data.end:
            raise ValueError("cut off")
        unit = _unit(data, 8 if wide else 4, context)
        if unit is not None:
            yield from _Program(unit, data, end, context).sequences()
        data.at = end


def _unit(data: Fields, offset_size: int, context: Context) -> _Unit | None:
    version = data.number(2)
    if not 2 <= version <= 5:
        return None
    if version == 5:
        data.take(2)
    program = data.number(offset_size) + data.at
    shortest = data.number(1)
    data.take(1 if version < 4 else 2)
    line_base, line_range, first_special = data.number(1, signed=True), data.number(1), data.number(1)
    counts = tuple(data.take(first_special - 1)) if first_special else ()
    files = _files(data, offset_size, context) if version == 5 else _old_files(data)
    data.at = program
    if not line_range:
        raise ValueError("no range of lines")
    return _Unit(version, shortest, line_base, line_range, counts, files)


def _old_files(data: Fields) -> tuple[str, ...]:
    directories = [""]
    while name := data.string():
        directories.append(name)
    files: list[str] = []
    while name := data.string():
        directory = data.leb()
        data.leb()
        data.leb()
        files.append(_joined(directories, directory, name))
    return tuple(files)


def _files(data: Fields, offset_size: int, context: Context) -> tuple[str, ...]:
    directories = [entry.get(_PATH, "") for entry in _entries(data, offset_size, context)]
    names = ["", *map(str, directories[1:])]
    files = _entries(data, offset_size, context)
    return tuple(_joined(names, file.get(_DIRECTORY, 0), str(file.get(_PATH, "?"))) for file in files)


def _joined(directories: list[str], index: int | str, name: str) -> str:
    """A name as the compiler was given it: directories that are not told relatively say where it ran."""
    directory = directories[index] if isinstance(index, int) and index < len(directories) else ""
    return name if not directory or isabs(directory) or isabs(name) else f"{directory}/{name}"


def _entries(data: Fields, offset_size: int, context: Context) -> Iterator[dict[int, int | str]]:
    formats = [(data.leb(), data.leb()) for _ in range(data.number(1))]
    count = data.leb()
    if count > _FILES or (count and not formats):
        raise ValueError("too many files")
    for _ in range(count):
        yield {content: _form(data, form, offset_size, context) for content, form in formats}


def _form(data: Fields, form: int, offset_size: int, context: Context) -> int | str:
    if form == _FORM_STRING:
        return data.string()
    if form == _FORM_UDATA:
        return data.leb()
    if form == _FORM_BLOCK:
        data.take(data.leb())
        return 0
    if form in (_FORM_STRP, _FORM_LINE_STRP):
        at, strings = data.at, context.strings if form == _FORM_STRP else context.line_strings
        offset = data.number(offset_size)
        return type(data)(strings, context.relocated.get(at, offset)).string()
    return data.number(_FIXED[form]) if form in _FIXED else _unknown(form)


def _unknown(form: int) -> int:
    raise ValueError(f"a form {form:#x}")


class _Program:
    """The state machine of one unit (DWARF 5, 6.2.2), without what only debuggers need."""

    def __init__(self, unit: _Unit, data: Fields, end: int, context: Context) -> None:
        self._unit, self._data, self._end, self._context = unit, data, end, context
        self._count = 0
        self._reset()

    def _reset(self) -> None:
        self._address, self._file, self._line = 0, 1, 1
        self._sequence = Sequence(-1, [])

    def sequences(self) -> Iterator[Sequence]:
        while self._data.at < self._end:
            opcode = self._data.number(1)
            if opcode > len(self._unit.operand_counts):
                self._special(opcode)
            elif opcode == 0:
                done = self._extended()
                if done is not None:
                    yield done
            else:
                self._standard(opcode)

    def _row(self) -> None:
        self._count += 1
        if self._count > _ROWS:
            raise ValueError("too many rows")
        self._sequence.rows.append((self._address, (self._unit.file(self._file), max(self._line, 1))))

    def _special(self, opcode: int) -> None:
        adjusted = opcode - len(self._unit.operand_counts) - 1
        self._address += adjusted // self._unit.line_range * self._unit.shortest
        self._line += self._unit.line_base + adjusted % self._unit.line_range
        self._row()

    def _extended(self) -> Sequence | None:
        """DW_LNE_end_sequence gives the sequence; DW_LNE_set_address begins one."""
        size = self._data.leb()
        at = self._data.at
        opcode = self._data.number(1) if size else 0
        if opcode == 1:
            self._sequence.rows.append((self._address, None))
            done = self._sequence
            self._reset()
            self._data.at = at + size
            return done
        if opcode == 2:
            self._sequence.field = at + 1
            written = self._data.number(min(size - 1, 8))
            self._address = self._context.relocated.get(at + 1, written)
        if at + size > self._end:
            raise ValueError("cut off")
        self._data.at = at + size
        return None

    def _standard(self, opcode: int) -> None:
        data, unit = self._data, self._unit
        match opcode:
            case 1:
                self._row()
            case 2:
                self._address += data.leb() * unit.shortest
            case 3:
                self._line += data.leb(signed=True)
            case 4:
                self._file = data.leb()
            case 8:
                self._address += (255 - len(unit.operand_counts) - 1) // unit.line_range * unit.shortest
            case 9:
                self._address += data.number(2)
            case _:
                for _ in range(unit.operand_counts[opcode - 1]):
                    data.leb()
