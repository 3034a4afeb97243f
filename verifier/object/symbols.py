"""What names mean where objects are linked (gABI, "Symbol Table")."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from verifier.asm.program import Symbol
from verifier.errors import AsmError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from verifier.object.contents import Object, ObjectSymbol
    from verifier.object.layout import Layout

_ADDRESSES = 1 << 64


class SymbolTable:
    """The symbols of all objects, and ``externals``: addresses of data that no object defines.

    A local symbol is its object's own; of the others one definition counts: the strong one, else the first weak one.
    Raises AsmError for two strong ones.
    """

    def __init__(self, objects: Sequence[Object], layout: Layout, externals: Mapping[str, int]) -> None:
        self._layout = layout
        #: By the names that specifications use.
        self.known: dict[str, Symbol] = {}
        #: What a name means to every object, and how strongly it is bound.
        self._shared: dict[str, tuple[int, str]] = {}
        for o in objects:
            for symbol in o.symbols:
                if symbol.name and symbol.type not in ("section", "file"):
                    self._add(symbol, o)
        for name, value in externals.items():
            self._shared.setdefault(name, (value, "global"))
            self.known.setdefault(name, Symbol(name, value % _ADDRESSES, None, None))
        self.wanted = {s.name for o in objects for s in o.symbols if s.section == "undefined" and s.name}

    def define(self, symbol: Symbol) -> None:
        """One more, that no object has."""
        self.known[symbol.name] = symbol
        self._shared[symbol.name] = symbol.value, "global"

    def value(self, o: Object, index: int) -> int | None:
        """What a relocation's symbol stands for; None if nobody defines it. AsmError for one that is not there."""
        if not 0 <= index < len(o.symbols):
            raise AsmError(f"{o.name} has a relocation by symbol number {index}, and {len(o.symbols)} symbols")
        symbol = o.symbols[index]
        if symbol.binding != "local" and symbol.name in self._shared:
            return self._shared[symbol.name][0]
        if symbol.section == "undefined" and not symbol.name:
            return 0
        return self._own_value(symbol, o)

    def _own_value(self, symbol: ObjectSymbol, o: Object) -> int | None:
        """What its object says that a symbol stands for; None if it does not say."""
        if symbol.section == "absolute":
            return symbol.value
        return self._layout.of(o, symbol.section).address + symbol.value if isinstance(symbol.section, int) else None

    def _add(self, symbol: ObjectSymbol, o: Object) -> None:
        value, name = self._own_value(symbol, o), symbol.name
        if value is None:
            return
        if symbol.binding == "local":
            name = f"{name} ({o.name})" if name in self.known else name
        elif not self._bind(symbol, value, o):
            return
        section = symbol.section if isinstance(symbol.section, int) else None
        shown = None if section is None else self._layout.of(o, section).output
        self.known[name] = Symbol(name, value % _ADDRESSES, shown, None, symbol.size, symbol.type, symbol.binding)

    def _bind(self, symbol: ObjectSymbol, value: int, o: Object) -> bool:
        """Whether this is what the name means to all objects."""
        name = symbol.name
        before = self._shared.get(name)
        if before is not None and "weak" not in (before[1], symbol.binding):
            hint = "which one counts? leave one of the objects out"
            raise AsmError(f"the symbol '{name}' is defined twice, the second time in {o.name}", None, hint)
        if before is not None and symbol.binding == "weak":
            return False
        self._shared[name] = value, symbol.binding
        other = self.known.get(name)
        if other is not None and other.binding == "local":
            self.known[f"{name} (local)"] = replace(other, name=f"{name} (local)")
        return True
