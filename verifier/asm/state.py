"""What an assembly has read so far: sections, symbols, the current place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.asm.budget import SECTION_BYTES
from verifier.asm.expression import At, Evaluator, Node, Operation, Unknown, Value
from verifier.asm.sections import SectionBuilder, new_section
from verifier.asm.symbols import SymbolEntry, SymbolTable
from verifier.errors import AsmError

if TYPE_CHECKING:
    from verifier.asm.budget import Budget
    from verifier.asm.program import Diagnostic
    from verifier.asm.sections import Item, Place
    from verifier.source import Span


class Assembly:
    """The state of one program being read; the scope that expressions are read in."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.symbols = SymbolTable()
        self.sections: dict[str, SectionBuilder] = {}
        self.diagnostics: list[Diagnostic] = []
        self.hole_names: dict[str, Span] = {}
        self.begin_file()

    def begin_file(self) -> None:
        """A new file starts in ``.text``, with numeric and ``.L`` labels of its own."""
        self.symbols.begin_file()
        self.current = self._text()
        self.previous = self.current
        self.stack: list[tuple[SectionBuilder, SectionBuilder]] = []
        self.unwinding: Span | None = None
        self.unwinding_saved = 0
        self.debug_files: set[str] = set()

    def _text(self) -> SectionBuilder:
        return self.sections.get(".text") or new_section(".text", None, None, None)

    # --- sections ---

    def enter(self, name: str, flags: str | None, kind: str | None, span: Span) -> None:
        """Makes the section the current one; `AsmError` if it was opened with other flags."""
        known = self.sections.get(name) or (self.current if self.current.name == name else None)
        if known is None:
            known = new_section(name, flags, kind, span)
            self.sections[name] = known
        elif flags is not None:
            new = new_section(name, flags, kind, span)
            if (new.executable, new.writable, new.allocated) != (
                known.executable, known.writable, known.allocated
            ):  # fmt: skip
                raise AsmError(f"section {name} was opened with other flags before", span)
        self.previous, self.current = self.current, known

    def emit(self, item: Item, variable: bool = False) -> None:
        """Adds an item of ``item.size`` bytes; ``variable``: relaxation may change that."""
        section = self.current
        self.sections.setdefault(section.name, section)
        self.budget.emit(max(item.size, 1), item.span)
        section.add(item, variable)
        if section.fixed > SECTION_BYTES:
            raise AsmError(f"section {section.name} is too large", item.span)
        self.current.hole_open = False

    # --- symbols and expressions (the protocol `Scope`) ---

    def symbol(self, name: str, span: Span) -> Node:
        return self.symbols.use(name, span)

    def numeric_label(self, number: int, forward: bool, span: Span) -> Node:
        return self.symbols.use_numeric(number, forward, span)

    def here(self) -> Node:
        return At(self.current.here())

    def constant(self, node: Node) -> int | None:
        evaluator = Evaluator(_locate, _lookup, _not_yet)
        try:
            value = evaluator.value(node)
        except Unknown:
            return None
        return value.number if value.base is None else None

    def label(self, name: str, span: Span) -> None:
        """A label here; the name that a hole after it goes by."""
        self.sections.setdefault(self.current.name, self.current)
        self.symbols.define_label(name, self.current.here(), span)
        self.current.label, self.current.hole_open = name, False

    def numbered(self, number: int) -> None:
        self.sections.setdefault(self.current.name, self.current)
        self.symbols.define_numeric(number, self.current.here())
        self.current.hole_open = False


def _locate(place: Place) -> Value:
    return Value(place.fixed, (id(place.section), place.epoch))


def _lookup(symbol: SymbolEntry, _span: Span) -> Value | Node:
    if symbol.definition is None or symbol.binding == "weak":
        raise Unknown
    return symbol.definition


def _not_yet(_operation: Operation, _left: Value, _right: Value) -> Exception:
    return Unknown()
