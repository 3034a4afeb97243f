"""Symbols while the text is read: named ones, those of one file (``.L…``), and numeric labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.asm.expression import At, Node, Reference
from verifier.errors import AsmError

if TYPE_CHECKING:
    from verifier.asm.sections import Place
    from verifier.source import Span


@dataclass(slots=True, eq=False)
class SymbolEntry:
    """``definition`` is the first one, which forward references mean; ``current`` the last ``.set``.

    ``fixed``: by ``.equiv``, for good.
    """

    name: str
    file: int
    used: Span | None = None
    defined: Span | None = None
    definition: Node | None = None
    current: Node | None = None
    is_set: bool = False
    fixed: bool = False
    binding: str = "local"
    type: str = "notype"
    size: Node | None = None


class SymbolTable:
    """All symbols of one program. ``begin_file`` starts a new scope for numeric and ``.L`` labels."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, int], SymbolEntry] = {}
        self._file = 0
        self._numeric: dict[int, Place] = {}
        self._awaited: dict[int, SymbolEntry] = {}

    def begin_file(self) -> None:
        self._file += 1
        self._numeric = {}
        self._awaited = {}

    def end_file(self) -> None:
        """`AsmError` if a numeric label was used forward and never came."""
        for number, entry in self._awaited.items():
            raise AsmError(f"no label '{number}:' follows", entry.used)

    def entries(self) -> list[SymbolEntry]:
        return list(self._entries.values())

    def entry(self, name: str) -> SymbolEntry:
        key = (name, self._file if name.startswith(".L") else 0)
        if key not in self._entries:
            self._entries[key] = SymbolEntry(name, self._file)
        return self._entries[key]

    def entry_or_none(self, name: str) -> SymbolEntry | None:
        """The entry if the symbol has a definition by now."""
        entry = self._entries.get((name, self._file if name.startswith(".L") else 0))
        return entry if entry and entry.definition is not None else None

    def use(self, name: str, span: Span) -> Node:
        """What the name means here: the value it was ``.set`` to, or the symbol."""
        entry = self.entry(name)
        entry.used = entry.used or span
        if entry.is_set and entry.current is not None:
            return entry.current
        return Reference(entry, span)

    def define_label(self, name: str, place: Place, span: Span) -> None:
        entry = self.entry(name)
        _refuse_second(entry, span)
        entry.definition = entry.current = At(place)
        entry.defined, entry.file = span, self._file

    def set(self, name: str, node: Node, span: Span, once: bool) -> None:
        """``.set`` and its kin; ``once`` for ``.equiv``, which may not redefine."""
        entry = self.entry(name)
        if once or entry.fixed or not entry.is_set or entry.file != self._file:
            _refuse_second(entry, span)
        entry.is_set, entry.fixed = True, once
        entry.definition = entry.definition or node
        entry.current = node
        entry.defined, entry.file = span, self._file

    def define_numeric(self, number: int, place: Place) -> None:
        self._numeric[number] = place
        awaited = self._awaited.pop(number, None)
        if awaited:
            awaited.definition = At(place)

    def use_numeric(self, number: int, forward: bool, span: Span) -> Node:
        if not forward:
            if number not in self._numeric:
                raise AsmError(f"no label '{number}:' before this", span)
            return At(self._numeric[number])
        entry = self._awaited.setdefault(number, SymbolEntry(f"{number}f", self._file))
        entry.used = entry.used or span
        return Reference(entry, span)


def _refuse_second(entry: SymbolEntry, span: Span) -> None:
    if entry.defined is not None:
        raise AsmError(
            f"'{entry.name}' is already defined", span, f"the first definition is at {entry.defined.where}"
        )
