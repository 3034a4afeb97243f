"""RFLAGS between its cells and its 64-bit image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.ir.cells import CELL_INDEX, RFLAGS_LAYOUT
from verifier.terms import Term, concat, const, extract

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WIDTH = 64
_FIRST = CELL_INDEX["cf"]  # the flag cells stand side by side, in the order of the layout
_packed: dict[tuple[Term, ...], Term] = {}


def pack(cells: Sequence[Term], overrides: Mapping[str, Term] | None = None) -> Term:
    """The 64-bit image of the flag cells, with some of them replaced; bit 1 reads as 1, reserved bits as 0."""
    flags = list(cells[_FIRST : _FIRST + len(RFLAGS_LAYOUT)])
    for name, value in (overrides or {}).items():
        flags[CELL_INDEX[name] - _FIRST] = value
    key = tuple(flags)
    found = _packed.get(key)
    if found is None:
        found = _packed[key] = _pack(key)
    return found


def _pack(flags: tuple[Term, ...]) -> Term:
    parts: list[Term] = []
    at = 0
    for flag, (bit, width) in zip(flags, RFLAGS_LAYOUT.values(), strict=True):
        if bit > at:
            parts.append(const(1 if at == 1 else 0, bit - at))  # bit 1 is the only reserved one that is set
        parts.append(flag)
        at = bit + width
    parts.append(const(0, WIDTH - at))
    return concat(*reversed(parts))


def unpack(image: Term) -> dict[str, Term]:
    """Every flag of an image of at least 32 bits; 16-bit images give only those below bit 16."""
    return {
        name: extract(image, bit + width - 1, bit)
        for name, (bit, width) in RFLAGS_LAYOUT.items()
        if bit + width <= image.width
    }
