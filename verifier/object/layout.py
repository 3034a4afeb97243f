"""Where the sections of objects come to lie."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from verifier.asm.program import TEXT_BASE, Section, is_percpu
from verifier.errors import AsmError
from verifier.object import limits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from verifier.object.code import Refusal
    from verifier.object.contents import Object, ObjectSection

_PAGE, _LARGE_PAGE = 4096, 2 << 20
_CODE_ALIGNMENT = 16
_ADDRESSES = 1 << 64
_KERNEL_HALF = 1 << 63


@dataclass(slots=True, eq=False)
class Placed:
    """A section of an object at its address. ``output``: the section of the program that it is a part of.

    ``refused``: the offsets of bytes that are not known, and why. ``wanted``: something else refers to it by a symbol
    or a relocation, as nothing does to tables that only loaders and debuggers read.
    """

    object: Object
    index: int
    section: ObjectSection
    output: str
    address: int = 0
    data: bytearray | bytes = b""
    refused: dict[int, Refusal] = field(default_factory=dict)
    wanted: bool = True

    @property
    def end(self) -> int:
        return self.address + len(self.data)


class Layout:
    """All sections that take memory, at addresses: as the file has them if it is linked, else one after another.

    Text stands from the base on, then data; per-CPU sections count from 0. Sections of one name and kind are one.
    """

    def __init__(self, objects: Sequence[Object], text_base: int | None) -> None:
        self.placed = [Placed(o, i, s, s.name) for o in objects for i, s in o.sections.items()]
        self._index = {(id(p.object), p.index): p for p in self.placed}
        if sum(len(p.section.data) for p in self.placed) > limits.MEMORY_BYTES:
            raise AsmError(f"the objects need more than {limits.MEMORY_BYTES >> 20} MB of memory")
        if any(o.linked for o in objects):
            self._fixed(objects, text_base)
        else:
            self._laid(TEXT_BASE if text_base is None else text_base)
        self._sorted = sorted((p for p in self.placed if p.data), key=lambda p: p.address)
        self._starts = [p.address for p in self._sorted]
        if not any(p.section.executable for p in self._sorted):
            raise AsmError(f"{objects[0].name} has no code")

    def of(self, o: Object, section: int) -> Placed:
        return self._index[id(o), section]

    def at(self, address: int) -> Placed | None:
        """The section that has a byte."""
        index = bisect_right(self._starts, address) - 1
        found = self._sorted[index] if index >= 0 else None
        return found if found is not None and address < found.end else None

    def is_code(self, address: int) -> bool:
        found = self.at(address)
        return found is not None and found.section.executable

    def free(self) -> int:
        """An address above all sections, on a large page of its own."""
        return _up(max(p.end for p in self._sorted), _LARGE_PAGE)

    def sections(self) -> Iterator[Section]:
        """The sections of the program."""
        parts: dict[str, list[Placed]] = {}
        for placed in self._sorted:
            if placed.wanted:
                parts.setdefault(placed.output, []).append(placed)
        if sum(some[-1].end - some[0].address for some in parts.values()) > limits.MEMORY_BYTES:
            raise AsmError(f"the sections take more than {limits.MEMORY_BYTES >> 20} MB, with what lies between them")
        for name, some in parts.items():
            data = bytearray()
            for placed in some:
                data += bytes(placed.address - some[0].address - len(data)) + placed.data
            first = some[0]
            yield Section(name, first.address, bytes(data), first.section.executable, first.section.writable)

    # --- addresses ---

    def _fixed(self, objects: Sequence[Object], text_base: int | None) -> None:
        if len(objects) > 1:
            raise AsmError(f"{objects[0].name} is linked already: it goes with no other object")
        base = (text_base or 0) if objects[0].movable else 0
        if text_base is not None and not objects[0].movable:
            raise AsmError(f"{objects[0].name} says where it lies: program.text cannot", None, "leave 'text' out")
        names: dict[str, int] = {}
        for placed in self.placed:
            placed.address = base + (placed.section.address or 0)
            placed.data = bytearray(placed.section.data) if placed.section.relocations else placed.section.data
            count = names[placed.output] = names.get(placed.output, 0) + 1
            placed.output += f" ({count})" if count > 1 else ""
            if placed.end > _ADDRESSES or (placed.section.executable and placed.data and placed.address < _KERNEL_HALF):
                what = f"{objects[0].name} has its section {placed.section.name} at {placed.address:#x}"
                raise AsmError(what, None, "kernel code lies in the upper half of the address space")

    def _laid(self, base: int) -> None:
        groups: dict[tuple[bool, bool, bool], list[Placed]] = {}
        kinds: dict[str, tuple[bool, bool]] = {}
        for placed in self.placed:
            s = placed.section
            placed.data = bytearray(s.data)
            if kinds.setdefault(s.name, (s.executable, s.writable)) != (s.executable, s.writable):
                placed.output = f"{s.name} ({'wx'[s.executable]})"
            groups.setdefault((not s.executable, is_percpu(s.name), False), []).append(placed)
        at = _stacked(base, groups.get((False, False, False), []), _CODE_ALIGNMENT)
        _stacked(0, groups.get((True, True, False), []), 1)
        at = _stacked(_up(at, _LARGE_PAGE), groups.get((True, False, False), []), _PAGE)
        if at > _ADDRESSES:
            raise AsmError(f"the sections do not fit above {base:#x}")


def _stacked(at: int, sections: list[Placed], alignment: int) -> int:
    """Sections one after another, those of one output section side by side."""
    order = {p.output: n for n, p in reversed(list(enumerate(sections)))}
    last = None
    for placed in sorted(sections, key=lambda p: order[p.output]):
        least = alignment if placed.output != last else 1
        placed.address = at = _up(at, max(placed.section.alignment, least))
        at += len(placed.data)
        last = placed.output
    return at


def _up(address: int, alignment: int) -> int:
    return -(-address // alignment) * alignment
