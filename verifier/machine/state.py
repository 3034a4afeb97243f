"""A symbolic machine state at an instruction boundary, and the states a run can start from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.ir.cells import CELL_INDEX, CELL_NAMES, CELLS
from verifier.machine.rflags import pack
from verifier.machine.rules import RULES
from verifier.terms import FALSE, TRUE, Term, add, and_, any_of, const, eq, extract, not_, or_, sext, ult, var, zext

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from verifier.machine.config import Context, MachineConfig
    from verifier.machine.frame import Frame
    from verifier.machine.layout import Layout

#: The value of ``State.rip`` while control is in the interrupted context, outside the program.
HOME = -1
#: The value of ``State.rip`` where a nested run leaves for ``State.target``, an address that it does not know.
LEAVING = -2

DATA_SEGMENT_REGISTERS = ("es", "ds", "fs", "gs")

#: Bits that nothing written to a register changes, and which of them are 1 (SDM vol. 2B, MOV to CR; vol. 3B, DR6).
RESERVED = {"cr3": (1 << 63, 0), "dr6": (0xFFFF_FFFF_FFFE_17F0, 0xFFFE_07F0)}

LOWEST_CANONICAL_HIGH = 0xFFFF_8000_0000_0000


@dataclass(frozen=True, slots=True, eq=False)
class Home:
    """The interrupted context: what a run has to come back to. ``rflags`` is the packed image.

    ``tracked``: the saved words, 64 bits each, that are not constants, by name: what must not be lost.
    """

    context: Context
    rip: Term
    cells: tuple[Term, ...]
    rflags: Term
    tracked: Mapping[Term, str]

    def cell(self, name: str) -> Term:
        if name == "rip":
            return self.rip
        return self.rflags if name == "rflags" else self.cells[CELL_INDEX[name]]


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Control is concrete: ``rip`` is an instruction's address (or `HOME`). Data are terms.

    ``cells`` are in the numbering of `verifier.ir.cells`; ``memory`` maps word locations (`Layout.location`) to
    64-bit terms, and a location not in it still has its initial word. ``path`` holds the one-bit terms that were
    decided on the way here. Never changed: a step makes a new state.

    ``frame``: in a nested run, what it knows of the context that it struck: a location that it did not write holds the
    param of its number (`param_at`). ``target``: where a nested run leaves to.
    """

    home: Home
    rip: int
    cells: tuple[Term, ...]
    memory: Mapping[int, Term]
    path: frozenset[Term]
    nmi_blocked: bool = False
    nmi_pending: bool = False
    frame: Frame | None = None
    target: Term | None = None

    def cell(self, name: str) -> Term:
        return self.cells[CELL_INDEX[name]]

    @property
    def cpl(self) -> int:
        """The current privilege level: control is concrete, so it is a constant."""
        return self.cell("cpl").value

    @property
    def rflags(self) -> Term:
        return pack(self.cells)


def rule(name: str) -> Term:
    """A rule that differs between processors: one unknown bit for the whole run."""
    assert name in RULES, name
    return var(f"rule:{name}", 1)


def in_shadow(inhibit: Term) -> Term:
    """The condition that STI or a load of SS holds maskable interrupts at this boundary, of the cell ``inhibit``."""
    return not_(eq(extract(inhibit, 0, 0), extract(inhibit, 1, 1)))


def starts(layout: Layout) -> Iterator[State]:
    """Every state before the first event, one per interrupted context."""
    for context in layout.machine.contexts:
        if context.stack is None:
            yield _start(layout, context, var("rsp0", 64))
        else:
            middle = layout.machine.regions[context.stack].size // 2
            yield _start(layout, context, add(layout.base(context.stack), const(middle, 64)))


def _start(layout: Layout, context: Context, rsp: Term) -> State:
    values = dict(_arbitrary(context))
    values |= {
        "rsp": rsp,
        **{name: const(getattr(context, name), 16) for name in ("cs", "ss") if name not in context.ldt},
        "cpl": const(context.cpl, 2),
        "inhibit": const(0, 2),
    }
    if layout.machine.percpu is not None:
        base = add(layout.base(layout.machine.percpu), const(-layout.machine.percpu_origin, 64))
        values["gs_base" if context.gs == "kernel" else "kernel_gs_base"] = base
    cells = tuple(values[name] for name in CELL_NAMES)
    rip, path = _interrupted_rip(layout, context)
    path |= {canonical(values[base]) for base in ("fs_base", "gs_base", "kernel_gs_base")} - {TRUE}  # rule I9
    path |= {not_(extract(values["gs_base"], 63, 63))} if context.low_gs else set()
    path |= {_holds(values[name], name) for name in RESERVED} - {TRUE}
    path |= {not_(bad) for bad in _impossible_segments(layout, context, values)} - {TRUE}
    path |= {in_ldt(values[name]) for name in context.ldt}
    path |= {rule(name) if value else not_(rule(name)) for name, value in layout.processor.items()}
    rflags = pack(cells)
    words = {"rip": rip, "cs": values["cs"], "rflags": rflags, "rsp": rsp, "ss": values["ss"]}
    tracked = {zext(term, 64): name for name, term in words.items() if not term.is_const}
    home = Home(context, rip, cells, rflags, tracked)
    return State(home, HOME, cells, {}, path)


def _arbitrary(context: Context) -> Iterator[tuple[str, Term]]:
    for name, width in CELLS.items():
        if name in context.fixed:
            yield name, const(context.fixed[name], width)
        else:
            yield name, var(f"{name}0", width)


def _impossible_segments(layout: Layout, context: Context, values: Mapping[str, Term]) -> Iterator[Term]:
    """Per data segment register: that it holds a segment which code of this CPL can neither load nor inherit."""
    for name in DATA_SEGMENT_REGISTERS:
        yield too_privileged(layout.machine, values[name], context.cpl)


def too_privileged(machine: MachineConfig, selector: Term, cpl: int) -> Term:
    """The condition that a selector, whatever its RPL, means a segment of a DPL below a CPL (rule R10)."""
    index = extract(selector, 15, 2)
    return any_of([eq(index, const(s.selector >> 2, 14)) for s in machine.segments.values() if s.dpl < cpl])


def in_ldt(selector: Term) -> Term:
    """The condition that a selector is one of the LDT with RPL 3 (rule R13)."""
    return eq(extract(selector, 2, 0), const(7, 3))


def _interrupted_rip(layout: Layout, context: Context) -> tuple[Term, frozenset[Term]]:
    """Rule P4: under CPL 3 any canonical address may be there; the kernel's lies outside the program's text."""
    if layout.machine.is_32_bit(context):
        return var("low_rip0", 64, 0, (1 << 32) - 1), frozenset()
    if context.cpl == 3:
        rip = var("rip0", 64)
        return rip, frozenset((canonical(rip),))
    rip = var("kernel_rip0", 64, LOWEST_CANONICAL_HIGH)
    return rip, frozenset(not_(in_text) for in_text in text_conditions(layout, rip))


def text_conditions(layout: Layout, address: Term) -> Iterator[Term]:
    """Per executable section: the condition that an address lies in it."""
    for section in layout.machine.program.sections:
        if section.executable and section.data:
            low, high = const(section.address, 64), const(section.end, 64)
            inside = not_(or_(ult(address, low), not_(ult(address, high))))
            if inside is not FALSE:
                yield inside


def _holds(value: Term, name: str) -> Term:
    """The condition that the reserved bits of a register are what they always are (rule I12)."""
    mask, ones = RESERVED[name]
    return eq(and_(value, const(mask, 64)), const(ones, 64))


def canonical(address: Term) -> Term:
    """Bits 63 to 47 of an address are equal (rule A1)."""
    if address.lo >= LOWEST_CANONICAL_HIGH or address.hi < 1 << 47:
        return TRUE
    return eq(sext(extract(address, 47, 0), 64), address)
