"""Whether a run may start where it does: what a specification says of the interrupted context and of memory at rest.

For runs that were not made here: a trace read from a file, a random start.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from verifier.ir.cells import CELLS
from verifier.machine.config import Pointer
from verifier.machine.layout import HIGHEST_END, LOWEST_BASE
from verifier.machine.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from verifier.machine.config import Context, MachineConfig, Region
    from verifier.trace.run import Start

#: BLD and RTM, BT, BS, BD, B3 to B0; and the reserved bits that are 1.
_DR6_FREE, _DR6_ONES = 0x1_E80F, 0xFFFE_07F0
_MASK = (1 << 64) - 1


def problems(machine: MachineConfig, context: Context, start: Start) -> Iterator[str]:
    """What stands against a start, one sentence each; nothing if the specification allows it."""
    if set(start.bases) != set(machine.regions) or set(start.state.cells) != set(CELLS):
        yield "its regions or cells are not those of the specification"
        return
    yield from _cells(machine, context, start)
    yield from _interrupted(machine, context, start)
    yield from _places(machine, start)
    yield from _memory(machine, start)
    yield from (f"no rule is called '{name}', with {value}" for name, value in start.rules.items()
                if name not in RULES or value not in (0, 1))  # fmt: skip


def _cells(machine: MachineConfig, context: Context, start: Start) -> Iterator[str]:
    cells = start.state.cells
    wanted = {**context.fixed, "cs": context.cs, "ss": context.ss, "cpl": context.cpl, "inhibit": 0}
    for name in context.ldt:
        wanted[name] = cells[name] | 7
    if context.stack is not None:
        wanted["rsp"] = start.bases[context.stack] + machine.regions[context.stack].size // 2
    if machine.percpu is not None:
        base = (start.bases[machine.percpu] - machine.percpu_origin) % (1 << 64)
        wanted["gs_base" if context.gs == "kernel" else "kernel_gs_base"] = base
    for name, value in cells.items():
        if not 0 <= value < 1 << CELLS[name]:
            yield f"{name} is {value:#x}, which is no value of {CELLS[name]} bits"
        elif wanted.get(name, value) != value:
            yield f"{name} is {value:#x} and not {wanted[name]:#x}"
        elif name in ("ds", "es", "fs", "gs") and _too_high(machine, context, value):
            yield f"{name} is {value:#x}, which code at CPL {context.cpl} cannot have"
    if cells["cr3"] >> 63:
        yield f"cr3 is {cells['cr3']:#x}, and bit 63 of it is never set"
    if cells["dr6"] & ~_DR6_FREE != _DR6_ONES:
        yield f"dr6 is {cells['dr6']:#x}, which its reserved bits do not allow"
    yield from _segment_bases(context, cells)


def _segment_bases(context: Context, cells: Mapping[str, int]) -> Iterator[str]:
    for name in ("fs_base", "gs_base", "kernel_gs_base"):
        if not _canonical(cells[name]):
            yield f"{name} is {cells[name]:#x}, which is not canonical"
    if context.low_gs and cells["gs_base"] >> 63:
        yield f"gs_base is {cells['gs_base']:#x}, which is not in the lower half"


def _too_high(machine: MachineConfig, context: Context, selector: int) -> bool:
    segment = next((s for s in machine.segments.values() if s.selector & ~3 == selector & ~3), None)
    return segment is not None and segment.dpl < context.cpl


def _interrupted(machine: MachineConfig, context: Context, start: Start) -> Iterator[str]:
    if start.home != start.state.rip or start.state.nmi_blocked or start.state.nmi_pending:
        yield "it does not start in the interrupted context"
    if not _canonical(start.home):
        yield f"the interrupted rip is {start.home:#x}, which is not canonical"
    elif machine.is_32_bit(context) and start.home >> 32:
        yield f"the interrupted rip is {start.home:#x}, and 32-bit code lies below 4 GB"
    elif context.cpl == 0 and (start.home >> 63 == 0 or machine.program.covers(start.home)):
        yield f"the interrupted rip is {start.home:#x}, which is not outside the program in the kernel half"


def _canonical(address: int) -> bool:
    return address >> 47 in (0, 0x1FFFF)


def _places(machine: MachineConfig, start: Start) -> Iterator[str]:
    spans = [(name, start.bases[name], region.size) for name, region in machine.regions.items()]
    for name, region in machine.regions.items():
        base = start.bases[name]
        if base != region.address and (region.address is not None or not _may_stand(region, base)):
            yield f"{name} is at {base:#x}, where it cannot be"
    text = [(s.name, s.address, len(s.data)) for s in machine.program.sections if s.executable and s.data]
    for (name, low, size), (other, low_2, size_2) in combinations([*spans, *text], 2):
        if low < low_2 + size_2 and low_2 < low + size:
            yield f"{name} and {other} overlap"


def _may_stand(region: Region, base: int) -> bool:
    return LOWEST_BASE <= base <= HIGHEST_END - region.size and base % region.alignment == 0


def _memory(machine: MachineConfig, start: Start) -> Iterator[str]:
    state = start.state
    if any(not 0 <= byte < 256 for byte in state.memory.values()):
        yield "a byte of memory is no byte"
        return
    for name, region in machine.regions.items():
        base = start.bases[name]
        for datum in region.data:
            value = datum.initially
            if isinstance(value, Pointer):
                value = start.bases[value.region] + value.offset & _MASK
            if value is not None and state.read(base + datum.offset, datum.size) != value:
                yield f"{datum.name} is not what it is at rest"
        size = 0 if region.writable else len(region.contents)
        if any(0 <= at - base < size and region.contents[at - base] != b for at, b in state.memory.items()):
            yield f"{name} does not have its contents"
