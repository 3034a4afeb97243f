"""What is read from an object file or a listing, before anything has an address."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Instead of a section's index: another object or the specification defines the symbol; it is a number; it lies in a
#: section that takes no memory.
Elsewhere = Literal["undefined", "absolute", "unloaded"]


@dataclass(frozen=True, slots=True)
class ObjectSymbol:
    """A symbol as the file has it; ``value`` counts from the start of its section.

    ``binding``: ``local``, ``global`` or ``weak``. A section's own symbol has the section's name.
    """

    name: str
    section: int | Elsewhere
    value: int
    size: int = 0
    type: str = "notype"
    binding: str = "local"


@dataclass(frozen=True, slots=True)
class Relocation:
    """``type`` as the psABI names it (``R_X86_64_PC32``); ``offset`` in its section; ``symbol`` indexes the
    object's symbols."""

    offset: int
    type: str
    symbol: int
    addend: int


@dataclass(frozen=True, slots=True)
class ObjectSection:
    """A section that takes memory. ``address`` is None in a relocatable object. ``data`` is zeros for NOBITS."""

    name: str
    data: bytes
    alignment: int
    executable: bool
    writable: bool
    address: int | None = None
    relocations: tuple[Relocation, ...] = ()


@dataclass(frozen=True, slots=True)
class Lines:
    """Places in a text. ``rows``: by section, sorted, from which offset on which file and line; None: none known."""

    rows: Mapping[int, Sequence[tuple[int, tuple[str, int] | None]]] = field(default_factory=dict)

    def at(self, section: int, offset: int) -> tuple[str, int] | None:
        """The file and line that the byte at ``offset`` comes from."""
        rows = self.rows.get(section, ())
        index = bisect_right(rows, offset, key=lambda row: row[0]) - 1
        return rows[index][1] if index >= 0 else None


@dataclass(frozen=True, slots=True)
class Object:
    """One object file or listing, called ``name`` in messages.

    ``sections`` by the index that the file gives them; ``movable``: a position-independent executable, which may be
    loaded anywhere.
    """

    name: str
    sections: Mapping[int, ObjectSection]
    symbols: tuple[ObjectSymbol, ...]
    lines: Lines = field(default_factory=Lines)
    movable: bool = False

    @property
    def linked(self) -> bool:
        """Whether its sections have addresses."""
        return any(s.address is not None for s in self.sections.values())

    @property
    def bare(self) -> bool:
        """Whether it has to be linked, and nothing says where."""
        return not self.linked and not any(s.relocations for s in self.sections.values())
