"""What addresses are called: a line of a source text where one is known, else a symbol and an offset."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from verifier.asm.program import Mem, Target
from verifier.source import Span

if TYPE_CHECKING:
    from verifier.asm.program import Instruction
    from verifier.object.layout import Layout
    from verifier.object.symbols import SymbolTable


class Places:
    """Tells the places of code, and the names of what it refers to."""

    def __init__(self, layout: Layout, symbols: SymbolTable) -> None:
        self._layout = layout
        found: dict[int, str] = {}
        for symbol in symbols.known.values():
            if symbol.section is not None and (symbol.type == "func" or symbol.value not in found):
                found[symbol.value] = symbol.name
        self._labels = sorted(found.items())

    def span(self, address: int, data: bytes, text: str) -> Span:
        """The place of code; its text is the line that a disassembler would show."""
        name, placed = self.name(address), self._layout.at(address)
        line = placed.object.lines.at(placed.index, address - placed.address) if placed else None
        where = f"{address:x} <{name}>" if line else f"{address:x}"
        shown = f"{where}: {data.hex(' ')}  {text}"
        file, number = line or (f"{placed.object.name}({name})" if placed else name, 0)
        return Span(file, number, 1, len(shown) + 1, shown)

    def name(self, address: int) -> str:
        """``symbol+offset``, or the number where no symbol of the same section comes before."""
        index = bisect_right(self._labels, address, key=lambda label: label[0]) - 1
        placed = self._layout.at(address)
        if index < 0 or placed is None or self._labels[index][0] < placed.address:
            exact = index >= 0 and self._labels[index][0] == address
            return self._labels[index][1] if exact else f"{address:#x}"
        start, name = self._labels[index]
        return f"{name}+{address - start:#x}" if address > start else name

    def text(self, instruction: Instruction) -> str:
        """The instruction's text, with the name of what it refers to."""
        for operand in instruction.operands:
            if isinstance(operand, Target):
                return f"{instruction.text} <{self.name(operand.address)}>"
            if isinstance(operand, Mem) and operand.rip_relative and operand.segment is None:
                return f"{instruction.text} <{self.name(operand.disp % (1 << 64))}>"
        return instruction.text
