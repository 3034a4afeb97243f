"""What an operation and a whole `Block` read and write, by name: common ground of liveness and SSA names.

Names are those of the cells, plus `MEMORY` (all of memory) and `MSRS` (the model-specific registers that are
no cells). ``rdmsr`` and ``wrmsr`` reach the cells of `MSR_CELLS` too, since their index need not be known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from verifier.ir.cells import CELL_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from verifier.ir.ops import Block, Operation, Value

MEMORY: Final = "mem"
MSRS: Final = "msr"
#: The cells that are also model-specific registers (SDM vol. 4, 2.1: C0000100H to C0000102H).
MSR_CELLS: Final = ("fs_base", "gs_base", "kernel_gs_base")
#: What decides, besides the address, whether a memory access faults and what it reaches: paging, its
#: protections and the alignment check (SDM vol. 3A, 4.1 and 6.15). Liveness counts them as read; SSA does not
#: name them.
ACCESS_CELLS: Final = ("cr0", "cr3", "cr4", "ac", "cpl")
#: Every name that function-level SSA gives versions to.
NAMES: Final = (*CELL_NAMES, MEMORY, MSRS)

_IMPLICIT_USES: dict[str, tuple[str, ...]] = {
    "load": (MEMORY,),
    "store": (MEMORY,),
    "rdmsr": (MSRS, *MSR_CELLS),
    "tsc_aux": (MSRS,),
    "descriptor": ("cpl",),
    "wrmsr": (MSRS, *MSR_CELLS),
}
_IMPLICIT_DEFINITIONS: dict[str, tuple[str, ...]] = {"store": (MEMORY,), "wrmsr": (MSRS, *MSR_CELLS)}
#: Operations that matter even if nothing reads a result: they act, or they may fault.
ACTING: Final = frozenset(("load", "store", "fault_if", "skip_if", "rdmsr", "wrmsr"))


def may_skip(block: Block) -> bool:
    """Whether the instruction may end without any effect, so that what it writes may keep its old value."""
    return any(operation.opcode == "skip_if" for operation in block)


def uses(operation: Operation) -> tuple[str, ...]:
    """The names that the operation reads."""
    if operation.opcode == "get":
        return (str(operation.attr),)
    return _IMPLICIT_USES.get(operation.opcode, ())


def defines(operation: Operation) -> tuple[str, ...]:
    """The names that the operation gives a new value, or (``wrmsr``, ``store``) may give one in part."""
    if operation.opcode == "put":
        return (str(operation.attr),)
    return _IMPLICIT_DEFINITIONS.get(operation.opcode, ())


@dataclass(frozen=True, slots=True)
class Effects:
    """What a block does to the cells.

    ``reads``: every cell read. ``needed``: the cells that decide what the block does to memory, where it goes
    and whether it faults. ``sources``: per cell written, the cells that its new value is made of.
    """

    reads: frozenset[str]
    needed: frozenset[str]
    sources: Mapping[str, frozenset[str]]


def effects(block: Block) -> Effects:
    """The effects of one instruction on the cells (memory and `MSRS` are left out)."""
    origins: list[frozenset[str]] = []
    reads: set[str] = set()
    needed: set[str] = set()
    sources: dict[str, frozenset[str]] = {}

    def origin(values: Iterable[Value]) -> frozenset[str]:
        return frozenset().union(*(origins[v.index] for v in values))

    for operation in block:
        own = frozenset(uses(operation)).difference((MEMORY, MSRS))
        reads |= own
        below = origin(operation.args)
        if operation.opcode in ACTING:
            needed |= own | below
        if operation.opcode in ("load", "store"):
            needed.update(ACCESS_CELLS)
        if operation.opcode == "put":
            sources[str(operation.attr)] = below
        if operation.result is not None:
            origins.append(own | below)
    needed |= origin(block.terminator.args)
    if may_skip(block):
        reads |= sources.keys()
        sources = {cell: below | {cell} for cell, below in sources.items()}
    return Effects(frozenset(reads), frozenset(needed), sources)
