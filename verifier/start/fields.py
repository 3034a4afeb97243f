"""What code uses of an executable's own per-CPU data, and of data among its code: a specification has to name these."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from verifier.asm.program import is_percpu

if TYPE_CHECKING:
    from verifier.asm.program import Mem, Program, Symbol

_ADDRESSES = 1 << 64


@dataclass(slots=True)
class Part:
    """``size`` bytes at ``offset`` of a symbol of ``whole`` bytes; ``accessed``: where, in words."""

    symbol: str
    offset: int
    size: int
    whole: int
    percpu: bool
    accessed: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.symbol if self.is_whole or not self.percpu else f"{self.symbol}_{self.offset}"

    @property
    def is_whole(self) -> bool:
        return not self.offset and self.size == self.whole


class Parts:
    """Collects them. ``found``: by address and size; ``tables``: symbols that are read by an index, and where."""

    def __init__(self, program: Program) -> None:
        code = {s.name for s in program.sections if s.executable}
        named = [s for s in program.symbols.values() if s.section is not None and (s.size or s.section in code)]
        self._code = code
        self._symbols = sorted(named, key=lambda s: (s.value, s.type == "object", s.size))
        self._starts = [s.value for s in self._symbols]
        self.found: dict[tuple[int, int], Part] = {}
        self.tables: dict[str, list[str]] = {}

    def look(self, operand: Mem, where: str) -> None:
        """Takes note of a memory operand of an instruction at ``where``."""
        address = operand.disp % _ADDRESSES
        symbol = self._around(address)
        if symbol is None or not operand.width:
            return
        percpu = is_percpu(symbol.section)
        if operand.base is not None or operand.index is not None:
            if operand.index is not None and address >> 63 and not percpu:
                self.tables.setdefault(symbol.name, []).append(where)
        elif percpu and operand.segment == "gs":
            self._note(symbol, address - symbol.value, operand.width // 8, where, percpu=True)
        elif symbol.section in self._code and operand.segment is None:
            self._note(symbol, 0, address - symbol.value + operand.width // 8, where, percpu=False)

    def _note(self, symbol: Symbol, offset: int, size: int, where: str, *, percpu: bool) -> None:
        new = Part(symbol.name, offset, size, symbol.size, percpu)
        self.found.setdefault((symbol.value + offset, size), new).accessed.append(where)

    def _around(self, address: int) -> Symbol | None:
        """The symbol that an address belongs to."""
        index = bisect_right(self._starts, address) - 1
        found = self._symbols[index] if index >= 0 else None
        return found if found is not None and address < found.value + max(found.size, 8) else None
