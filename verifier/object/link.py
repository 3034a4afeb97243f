"""Objects to a `Program`: addresses, symbols, relocations, as GNU ld does it for a statically linked program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.asm.program import Program
from verifier.errors import AsmError
from verifier.object.alternatives import Alternative, read_alternatives
from verifier.object.code import Code, Refusal, Text
from verifier.object.elsewhere import Elsewhere, refusal
from verifier.object.layout import Layout
from verifier.object.patched import Patching, apply
from verifier.object.places import Places
from verifier.object.relocate import relocate, size_of
from verifier.object.symbols import SymbolTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from verifier.asm.outside import Stub
    from verifier.object.contents import Object, Relocation
    from verifier.object.layout import Placed

_AS_IT_IS = Patching()


def link(
    objects: Sequence[Object],
    *,
    text_base: int | None,
    externals: Mapping[str, int],
    stubs: Sequence[Stub] = (),
    entries: Iterable[str] = (),
    patching: Patching = _AS_IT_IS,
) -> Program:
    """One program from objects that name each other's symbols.

    ``externals``: addresses of data that no object defines. ``stubs``: functions that no object defines, or that are
    to be cut off where one does. ``entries``: labels that control starts from; others are found as they are reached.
    ``patching``: what is replaced of the code before it runs. Raises AsmError for whatever does not fit.
    """
    layout, symbols, elsewhere = _joined(objects, text_base, externals, stubs)
    _mark_wanted(layout)
    refused, conditions = apply(patching, layout)
    texts = [
        Text(p.address, bytes(p.data), p.refused, p.object.bare) for p in layout.placed if p.section.executable
    ]
    code = Code([*texts, *elsewhere.texts()], elsewhere.instructions, refused, Places(layout, symbols))
    sections = (*layout.sections(), *elsewhere.sections())
    code.follow(symbols.known[e].value for e in entries if e in symbols.known)
    files = tuple(o.name for o in objects)
    return Program(code, symbols.known, sections, files=files, conditions=conditions, unknown=code.unknown)


def _mark_wanted(layout: Layout) -> None:
    """Finds the sections of objects, not of executables, that nothing refers to."""
    objects = {id(p.object): p.object for p in layout.placed}
    named = {(key, s.section) for key, o in objects.items() for s in o.symbols if s.type != "section"}
    for placed in layout.placed:
        here = (id(placed.object), placed.index)
        placed.wanted = placed.section.executable or placed.object.linked or here in named
    for placed in layout.placed:
        for entry in placed.section.relocations:
            index = placed.object.symbols[entry.symbol].section
            if isinstance(index, int) and index != placed.index:
                layout.of(placed.object, index).wanted = True


def alternatives_of(objects: Sequence[Object]) -> list[Alternative]:
    """The replacements that the objects have for their own code, at the addresses that `link` gives it by default."""
    layout, _, _ = _joined(objects, None, {}, ())
    return read_alternatives(layout, None)


def _joined(
    objects: Sequence[Object], text_base: int | None, externals: Mapping[str, int], stubs: Sequence[Stub]
) -> tuple[Layout, SymbolTable, Elsewhere]:
    """Everything at its address, relocated."""
    layout = Layout(objects, text_base)
    symbols = SymbolTable(objects, layout, externals)
    elsewhere = Elsewhere(stubs, symbols, layout)
    for placed in layout.placed:
        for entry in placed.section.relocations:
            _relocate(placed, entry, symbols, elsewhere)
    return layout, symbols, elsewhere


def _relocate(placed: Placed, entry: Relocation, symbols: SymbolTable, elsewhere: Elsewhere) -> None:
    """Does one relocation. What cannot be done is an error in code once control comes there, in constants at once.

    What writable data hold at first counts for nobody.
    """
    assert isinstance(placed.data, bytearray)
    value = symbols.value(placed.object, entry.symbol)
    if value is None:
        name = placed.object.symbols[entry.symbol].name
        if placed.section.executable:
            _refuse(placed, entry, refusal(name))
            return
        value = elsewhere.place(name)
    try:
        relocate(placed.data, entry, value + entry.addend, placed.address)
    except AsmError as error:
        why = f"{placed.object.name}, section {placed.section.name}, offset {entry.offset:#x}: {error.message}"
        if not 0 <= entry.offset < len(placed.data) or not (placed.section.executable or placed.section.writable):
            raise AsmError(why, None, error.hint) from error
        if placed.section.executable:
            _refuse(placed, entry, Refusal(why, error.hint))


def _refuse(placed: Placed, entry: Relocation, why: Refusal) -> None:
    placed.refused.update(dict.fromkeys(range(entry.offset, entry.offset + size_of(entry)), why))
