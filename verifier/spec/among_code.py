"""Data that lie among the program's code: they hold what the program gives, and cannot be written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.machine.config import Datum, Region
from verifier.spec.names import DataName

if TYPE_CHECKING:
    from verifier.asm.program import Program, Section
    from verifier.spec.memory import Declared


def code_around(program: Program, name: str) -> Section | None:
    """The executable section in which the program defines a name, if it does."""
    symbol = program.symbols.get(name)
    if symbol is None or symbol.section is None:
        return None
    return next((s for s in program.sections if s.executable and s.address <= symbol.value < s.end), None)


def datum_among_code(item: Declared, section: Section, program: Program) -> DataName:
    """Its place. SpecError for one whose size or whose bytes are not known."""
    symbol = program.symbols[item.name]
    size = item.size or symbol.size
    if symbol.value in tuple(program.instructions):  # those that control comes to
        kind = "per-CPU datum" if item.percpu else "datum outside the per-CPU sections"
        raise item.key.error(f"the program defines '{item.name}', but not as a {kind}")
    if item.percpu or item.placed:
        hint = "give it a size under 'data', and no more"
        raise item.key.error(f"the program defines '{item.name}' among its code", hint)
    if not 0 < size <= section.end - symbol.value:
        raise item.key.error(f"'{item.name}' lies among the code and has no size there", "add 'size: 8', as it is read")
    if any(a in program.unknown for a in range(symbol.value, symbol.value + size)):
        hint = "the code there is replaced, or refers elsewhere"
        raise item.key.error(f"not all bytes of '{item.name}' are known", hint)
    return DataName(symbol.value, size, percpu=False)


def region_among_code(name: str, place: DataName, section: Section) -> Region:
    start = place.address - section.address
    contents = section.data[start : start + place.size]
    return Region(
        name, "data", place.size, place.address, 1, (Datum(name, 0, place.size),), writable=False, contents=contents
    )
