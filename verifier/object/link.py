"""Objects to a `Program`: addresses, symbols, relocations, as GNU ld does it for a statically linked program."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from verifier.asm import outside
from verifier.asm.assembler import assemble_text
from verifier.asm.program import Instruction, Program, Symbol
from verifier.errors import AsmError, nearest
from verifier.object.code import Code, Text
from verifier.object.layout import Layout
from verifier.object.patched import Patching, apply
from verifier.object.relocate import relocate
from verifier.source import Span

if TYPE_CHECKING:
    from verifier.asm.outside import Stub
    from verifier.object.contents import Object, ObjectSymbol
    from verifier.object.layout import Placed

_ADDRESSES = 1 << 64


def link(
    objects: Sequence[Object],
    *,
    text_base: int | None,
    externals: Mapping[str, int],
    stubs: Sequence[Stub] = (),
    entries: Iterable[str] = (),
    patching: Patching = Patching(),  # noqa: B008
) -> Program:
    """One program from objects that name each other's symbols.

    ``externals``: addresses of data that no object defines. ``stubs``: functions that no object defines, or that are
    to be cut off where one does. ``entries``: labels that control starts from; others are found as they are reached.
    ``patching``: what is replaced of the code before it runs. Raises AsmError for whatever does not fit.
    """
    return _Linker(objects, text_base, externals, stubs).program(entries, patching)


class _Linker:
    def __init__(
        self, objects: Sequence[Object], text_base: int | None, externals: Mapping[str, int], stubs: Sequence[Stub]
    ) -> None:
        self._objects = objects
        self._externals = externals
        self._stubs = stubs
        self._layout = Layout(objects, text_base)
        self._symbols: dict[str, Symbol] = {}
        #: What a name means to every object, and how strongly it is bound.
        self._shared: dict[str, tuple[int, str]] = {}

    def program(self, entries: Iterable[str], patching: Patching) -> Program:
        self._define()
        stubs = self._assembled_stubs()
        for placed in self._layout.placed:
            self._relocate(placed)
        refused, conditions = apply(patching, self._layout)
        texts = (Text(p.address, bytes(p.data), p.missing) for p in self._layout.placed if p.section.executable)
        elsewhere = [s for s in stubs.sections if s.name == outside.SECTION] if stubs else []
        code = Code(texts, stubs.instructions if stubs else {}, refused, self._span)
        sections = (*self._layout.sections(), *elsewhere)
        files = tuple(o.name for o in self._objects)
        program = Program(code, self._symbols, sections, files=files, conditions=conditions)
        code.follow(self._symbols[e].value for e in entries if e in self._symbols)
        return program

    # --- symbols ---

    def _define(self) -> None:
        for o in self._objects:
            for symbol in o.symbols:
                if symbol.name and symbol.type not in ("section", "file"):
                    self._add(symbol, o)
        for name, value in self._externals.items():
            self._shared.setdefault(name, (value, "global"))
            self._symbols.setdefault(name, Symbol(name, value % _ADDRESSES, None, None))

    def _add(self, symbol: ObjectSymbol, o: Object) -> None:
        value, name = self._own_value(symbol, o), symbol.name
        if value is None:
            return
        if symbol.binding == "local":
            name = f"{name} ({o.name})" if name in self._symbols else name
        elif not self._bind(symbol, value, o):
            return
        section = symbol.section if isinstance(symbol.section, int) else None
        shown = None if section is None else self._layout.of(o, section).output
        self._symbols[name] = Symbol(name, value % _ADDRESSES, shown, None, symbol.size, symbol.type, symbol.binding)

    def _bind(self, symbol: ObjectSymbol, value: int, o: Object) -> bool:
        """Whether a name that all objects share means this: a weak definition gives way to a strong one (gABI)."""
        before = self._shared.get(symbol.name)
        if before is not None and "weak" not in (before[1], symbol.binding):
            hint = "which one counts? link them into one object first, or leave one out"
            raise AsmError(f"the symbol '{symbol.name}' is defined twice, the second time in {o.name}", None, hint)
        if before is not None and symbol.binding == "weak":
            return False
        self._shared[symbol.name] = value, symbol.binding
        known = self._symbols.get(symbol.name)
        if known is not None and known.binding == "local":
            self._symbols[f"{symbol.name} (local)"] = replace(known, name=f"{symbol.name} (local)")
        return True

    def _own_value(self, symbol: ObjectSymbol, o: Object) -> int | None:
        """What its object says that a symbol stands for; None if it does not say."""
        if symbol.section == "absolute":
            return symbol.value
        return self._layout.of(o, symbol.section).address + symbol.value if isinstance(symbol.section, int) else None

    def _value(self, o: Object, index: int) -> int | None:
        """What a relocation's symbol stands for; None if nobody defines it."""
        if not 0 <= index < len(o.symbols):
            raise AsmError(f"{o.name} has a relocation by symbol number {index}, and {len(o.symbols)} symbols")
        symbol = o.symbols[index]
        if symbol.binding != "local" and symbol.name in self._shared:
            return self._shared[symbol.name][0]
        own = self._own_value(symbol, o)
        if own is None and symbol.section == "undefined":
            return 0 if not symbol.name else self._shared.get(symbol.name, (None,))[0]
        return own

    # --- code that is not shown ---

    def _assembled_stubs(self) -> Program | None:
        """The stubs: of functions that an object defines, at their places; of others above all sections."""
        self._check_stubs()
        if not self._stubs:
            return None
        base = self._layout.free()
        program = assemble_text(outside.text_of(self._stubs), outside.SOURCE, text_base=base)
        instructions: dict[int, Instruction] = {}
        for stub in self._stubs:
            symbol, own = program.symbols[stub.name], self._symbols.get(stub.name)
            distance = 0 if own is None else own.value - symbol.value
            for at in range(symbol.value, symbol.value + symbol.size):
                if at in program.instructions:
                    instructions[at + distance] = replace(program.instructions[at], address=at + distance)
            if own is None:
                self._symbols[stub.name] = symbol
                self._shared[stub.name] = symbol.value, "global"
        return replace(program, instructions=instructions)

    def _check_stubs(self) -> None:
        wanted = {s.name for o in self._objects for s in o.symbols if s.section == "undefined"}
        for stub in self._stubs:
            own = self._symbols.get(stub.name)
            if own is None and stub.name not in wanted and not stub.handler:
                hint = nearest(stub.name, [*wanted, *self._symbols])
                raise AsmError(f"nothing in the program calls '{stub.name}'", stub.span, hint)
            if own is not None and not self._layout.is_code(own.value):
                raise AsmError(f"'{stub.name}' is no code: it cannot be called", stub.span)

    # --- relocations and places ---

    def _relocate(self, placed: Placed) -> None:
        where = f"{placed.object.name}, section {placed.section.name}"
        for entry in placed.section.relocations:
            value = self._value(placed.object, entry.symbol)
            at = f"{where}, offset {entry.offset:#x}"
            if value is None:
                placed.missing[entry.offset] = placed.object.symbols[entry.symbol].name or "?"
            elif isinstance(placed.data, bytearray):
                relocate(placed.data, entry, value + entry.addend, placed.address, at)

    def _span(self, address: int, text: str) -> Span:
        placed = self._layout.at(address)
        if placed is None:
            return Span("?", 0, 1, 2, text)
        offset = address - placed.address
        found = placed.object.lines.at(placed.index, offset)
        if found is not None:
            return Span(found[0], found[1], 1, len(text) + 1, text)
        return Span(f"{placed.object.name}({placed.section.name}+{offset:#x})", 0, 1, len(text) + 1, text)
