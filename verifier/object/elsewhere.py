"""What a program needs and no object has: stubs for code outside it, and places for what nobody defines."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from verifier.asm import outside
from verifier.asm.assembler import assemble_text
from verifier.asm.program import Instruction, Section, Symbol
from verifier.errors import AsmError, nearest
from verifier.object.code import Refusal, Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from verifier.asm.outside import Stub
    from verifier.object.layout import Layout
    from verifier.object.symbols import SymbolTable

UNDEFINED = ".undefined"
_PAGE = 4096
_SPACING = 16


def refusal(name: str) -> Refusal:
    """Why control must not come to what needs a symbol that nobody defines."""
    if not name:
        return Refusal("the place that is meant takes no memory")
    hint = f"a function: add '{name}: {{}}' to 'calls'; data: add it to machine.percpu or machine.data"
    return Refusal(f"the symbol '{name}' is not defined", hint)


class Elsewhere:
    """Above all sections of the objects: the stubs, then a place for each undefined symbol that data speak of.

    A function that an object defines is cut off: its stub stands at its address. Data may hold the address of a symbol
    that nobody defines; where control comes to it is an error. ``instructions``: those of the stubs.
    """

    def __init__(self, stubs: Sequence[Stub], symbols: SymbolTable, layout: Layout) -> None:
        self._symbols = symbols
        self._sections: list[Section] = []
        self.instructions: dict[int, Instruction] = {}
        _check(stubs, symbols, layout)
        self._start = layout.free()
        if stubs:
            self._assemble(stubs)
        self._places: dict[str, int] = {}

    def _assemble(self, stubs: Sequence[Stub]) -> None:
        program = assemble_text(outside.text_of(stubs), outside.SOURCE, text_base=self._start)
        self._sections = [s for s in program.sections if s.name == outside.SECTION]
        self._start = max(s.end for s in self._sections) + _PAGE & -_PAGE
        for stub in stubs:
            symbol, own = program.symbols[stub.name], self._symbols.known.get(stub.name)
            distance = 0 if own is None else own.value - symbol.value
            for at in range(symbol.value, symbol.value + symbol.size):
                if at in program.instructions:
                    self.instructions[at + distance] = replace(program.instructions[at], address=at + distance)
            if own is None:
                self._symbols.define(symbol)

    def place(self, name: str) -> int:
        """The address of what nobody defines."""
        if name not in self._places:
            address = self._start + _SPACING * len(self._places)
            self._places[name] = address
            self._symbols.known[name] = Symbol(name, address, UNDEFINED, None)
        return self._places[name]

    def texts(self) -> Iterator[Text]:
        """The places that control must not come to."""
        for name, address in self._places.items():
            why = refusal(name)
            yield Text(address, bytes(_SPACING), dict.fromkeys(range(_SPACING), why))

    def sections(self) -> Iterator[Section]:
        yield from self._sections
        if self._places:
            yield Section(UNDEFINED, self._start, bytes(_SPACING * len(self._places)), True, False)


def _check(stubs: Sequence[Stub], symbols: SymbolTable, layout: Layout) -> None:
    bare = next((p.object.name for p in layout.placed if p.object.bare), None)
    lost = f"{bare} has no relocations: objdump shows them with -dr" if bare else None
    for stub in stubs:
        own = symbols.known.get(stub.name)
        if own is None and stub.name not in symbols.wanted and not stub.handler:
            hint = nearest(stub.name, [*symbols.wanted, *symbols.known]) or lost
            raise AsmError(f"nothing in the program calls '{stub.name}'", stub.span, hint)
        if own is not None and stub.handler:
            hint = "give the handler that is not shown a 'name' of its own, beside 'contract'"
            raise AsmError(f"'{stub.name}' is a symbol of the program", stub.span, hint)
        if own is not None and not layout.is_code(own.value):
            raise AsmError(f"'{stub.name}' is no code: it cannot be called", stub.span)
