"""Readable values for what a counterexample leaves open: addresses that look like what they are, distinct data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.asm.program import GENERAL_REGISTERS
from verifier.ir.cells import CELLS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from verifier.machine.layout import Layout
    from verifier.machine.state import State
    from verifier.terms import Term

USER_RIP, USER_RSP = 0x0000_0000_0040_1000, 0x0000_7FFF_FFFF_E000
KERNEL_RIP = 0xFFFF_FFFF_8200_0000
FIRST_BASE, BASE_STRIDE = 0xFFFF_C900_0000_0000, 0x10_0000


def preferences(layout: Layout, start: State, variables: Iterable[Term]) -> dict[Term, int]:
    """variable -> the value it should have if nothing stands against it."""
    wanted: dict[Term, int] = {}
    for i, base in enumerate(layout.bases):
        wanted[base] = FIRST_BASE + i * BASE_STRIDE
    wanted[start.home.rip] = USER_RIP if start.home.context.cpl == 3 else KERNEL_RIP
    for name in CELLS:
        wanted.setdefault(start.cell(name), _cell(name))
    for v in variables:
        if v not in wanted:
            wanted[v] = _other(v)
    return {v: value & ((1 << v.width) - 1) for v, value in wanted.items() if v.op in ("var", "havoc")}


def _cell(name: str) -> int:
    if name == "rsp":
        return USER_RSP
    if name in GENERAL_REGISTERS:
        return 0x1111_1111_1111_1111 * (1 + GENERAL_REGISTERS.index(name) % 15)
    return 1 if name == "if" else 0


def _other(v: Term) -> int:
    """Memory words and invented values: distinct, and no pointer into anything."""
    return 0x0BAD_0000_0000_0000 + v.id if v.width == 64 else 0
