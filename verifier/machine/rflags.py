"""RFLAGS between its cells and its 64-bit image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.ir.cells import CELL_INDEX, RFLAGS_LAYOUT
from verifier.terms import Term, concat, const, extract

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WIDTH = 64


def pack(cells: Sequence[Term], overrides: Mapping[str, Term] | None = None) -> Term:
    """The 64-bit image of the flag cells, with some of them replaced; bit 1 reads as 1, reserved bits as 0."""
    parts: list[Term] = []
    at = 0
    for name, (bit, width) in RFLAGS_LAYOUT.items():
        if bit > at:
            parts.append(const(1 if at == 1 else 0, bit - at))  # bit 1 is the only reserved one that is set
        parts.append(overrides[name] if overrides and name in overrides else cells[CELL_INDEX[name]])
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
