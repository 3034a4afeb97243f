"""What a specification says about the machine: regions, gates, segments, contracts, interrupted contexts.

Plain data, made by ``spec/`` and read by the symbolic machine and, separately, by the concrete interpreter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from verifier.asm.program import Program
    from verifier.ir.formula import Formula


#: The region of the model-specific registers that are no cells, one word each. No canonical address leads to it.
MSRS = "msrs"
MSR_ADDRESS = 1 << 60
#: The model-specific registers that are cells (SDM vol. 4, table 2-2).
MSR_CELLS = {0xC000_0100: "fs_base", 0xC000_0101: "gs_base", 0xC000_0102: "kernel_gs_base"}
#: What RDPID and RDTSCP read.
TSC_AUX = 0xC000_0103


def msr_name(number: int) -> str:
    """What the datum of a model-specific register is called."""
    return f"msr_{number:#x}"


@dataclass(frozen=True, slots=True)
class Pointer:
    """The address ``offset`` bytes above the base of a region."""

    region: str
    offset: int


@dataclass(frozen=True, slots=True)
class Datum:
    """A named piece of a region: ``size`` bytes at ``offset``; ``initially`` None means arbitrary.

    ``initially`` is also the invariant at rest: what holds before the first event must hold at the end again.
    """

    name: str
    offset: int
    size: int
    initially: int | Pointer | None = None


@dataclass(frozen=True, slots=True)
class Region:
    """A stretch of memory apart from all others.

    ``address`` None: somewhere in the kernel half, canonical, aligned to ``alignment`` bytes, not overlapping any
    other region; the verdict then holds for every such place. ``writable`` False: its bytes are ``contents``.
    Kinds: ``stack`` (IST or RSP0), ``interrupted`` (the stack an interrupted kernel context runs on: RSP stands at
    ``size // 2``, and ``alignment`` is that RSP's), ``percpu`` (GS base points at its base while the
    kernel's GS base is in place), ``data`` (other named memory and the program's own data sections), ``msr`` (`MSRS`).
    """

    name: str
    kind: Literal["stack", "interrupted", "percpu", "data", "msr"]
    size: int
    address: int | None = None
    alignment: int = 16
    data: tuple[Datum, ...] = ()
    writable: bool = True
    contents: bytes = b""


@dataclass(frozen=True, slots=True)
class Gate:
    """An IDT gate: 64-bit, present, code selector = the kernel's. ``stack``: the region its IST slot tops, or None.

    ``slot``: the datum of 8 bytes that is its IST slot, which the code may change; then there is no ``stack``.
    """

    vector: int
    event: str
    entry: int
    kind: Literal["interrupt", "trap"]
    stack: str | None = None
    dpl: int = 0
    slot: str | None = None

    @property
    def ist(self) -> bool:
        """Whether it switches stacks whatever the CPL."""
        return self.stack is not None or self.slot is not None


@dataclass(frozen=True, slots=True)
class Segment:
    """A present descriptor of the GDT. ``long``: a 64-bit code segment (L=1, D=0).

    ``limit``: what LSL finds, in bytes; None where that is not told. Nothing else looks at it. ``writable``: of data;
    what is not can be no stack.
    """

    selector: int
    kind: Literal["code", "data"]
    dpl: int
    long: bool = False
    limit: int | None = None
    writable: bool = True

    @property
    def stack(self) -> bool:
        """Whether SS can select it."""
        return self.kind == "data" and self.writable


@dataclass(frozen=True, slots=True)
class Operand:
    """``size`` bytes that hidden code writes at an address, which is that of the state where control enters."""

    address: Formula
    size: int


#: What a good selector of the LDT means as CS: 32-bit code of DPL 3 (rule R13).
LDT_CODE = Segment(7, "code", 3)


@dataclass(frozen=True, slots=True)
class Contract:
    """What code that is not shown may do: a hole, a function that is called, a handler.

    ``clobbers``: cells that may hold anything whenever an event strikes inside and at its end, in the order of
    `verifier.ir.cells.CELL_NAMES` (with ``if`` among them where it may set or clear IF). ``may_raise``: names of
    faults that may strike inside, any number of times. ``stack``: bytes below RSP that it uses; they hold anything
    while it runs and afterwards; RSP stands at the lowest of them while it runs. ``writes``: names of data that may
    hold anything from then on; ``regions``: those of whole regions; ``operands``: other memory. ``saves``: general
    registers, clobbered too, that it pushes first and pops last: they lie on its stack while it runs, 8 bytes each,
    above the bytes of ``stack``; above them lie `notes`.

    ``requires``: truths where control enters; if one is false, the run ends there (``broken-contract``). ``irets``: it
    may execute an IRET at any moment, which unblocks NMIs. ``returns``: whether it comes to its end. ``gives``: cells
    that have, at its end, the value of a formula where control entered. ``never``: events that are taken not to
    strike inside. ``schedules`` says only what the precondition and ``irets`` are for.
    """

    name: str
    clobbers: tuple[str, ...]
    may_raise: tuple[str, ...] = ()
    stack: int = 0
    writes: tuple[str, ...] = ()
    saves: tuple[str, ...] = ()
    kind: Literal["hole", "function", "handler"] = "hole"
    requires: tuple[Formula, ...] = ()
    gives: tuple[tuple[str, Formula], ...] = ()
    regions: tuple[str, ...] = ()
    operands: tuple[Operand, ...] = ()
    irets: bool = False
    schedules: bool = False
    returns: Literal["always", "maybe", "never"] = "always"
    never: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[Formula, ...]:
        """What is worked out where control enters, and lies on its stack while it runs: what it gives, and where it
        writes."""
        return (*(formula for _, formula in self.gives), *(o.address for o in self.operands))

    @property
    def depth(self) -> int:
        """How far below its start RSP stands while the code runs, in bytes."""
        return self.stack + 8 * (len(self.saves) + len(self.gives) + len(self.operands))


@dataclass(frozen=True, slots=True)
class Context:
    """A context that the first event may interrupt. Its rip, flags and general registers are arbitrary.

    ``stack``: the region that its RSP points into, or None for an arbitrary RSP (user). ``gs``: whose GS base is in
    the GS_BASE register; ``user`` means any value. A kernel context's rip lies outside the program's text; a user
    context's may be any canonical address of any value (rule P4); that of 32-bit code lies below 4 GB.
    ``ldt``: which of ``cs`` and ``ss`` may be any selector of the LDT with RPL 3 (rule R13). ``low_gs``: GS_BASE lies
    in the lower canonical half, as every base does that user code gets from a kernel which keeps FSGSBASE from it.
    """

    name: str
    cpl: int
    cs: int
    ss: int
    gs: Literal["kernel", "user"]
    stack: str | None
    fixed: Mapping[str, int] = field(default_factory=dict)
    ldt: tuple[str, ...] = ()
    low_gs: bool = False


@dataclass(frozen=True, slots=True)
class MachineConfig:
    """Everything below the instructions. ``kernel_cs``: the selector in every gate; ``rsp0``: stack on CPL change;
    ``percpu``: the region of per-CPU data, and ``percpu_origin`` what their addresses count from: the kernel's GS base
    lies so far below the region.

    ``raised``: events that are not asynchronous, each with the addresses of the text's instructions that it may strike
    at, whatever these mean; ``raised_outside``: those that the interrupted context itself may raise.
    """

    program: Program
    regions: Mapping[str, Region]
    gates: Mapping[int, Gate]
    segments: Mapping[int, Segment]
    contracts: Mapping[str, Contract]
    contexts: tuple[Context, ...]
    kernel_cs: int = 0x10
    rsp0: str | None = None
    percpu: str | None = None
    percpu_origin: int = 0
    raised: Mapping[str, Container[int]] = field(default_factory=dict)
    raised_outside: frozenset[str] = frozenset()

    @property
    def has_ldt(self) -> bool:
        """Whether there is an LDT, whose descriptors change without notice (rule R13)."""
        return any(c.ldt for c in self.contexts)

    def is_32_bit(self, context: Context) -> bool:
        """Whether a context runs code that is not 64-bit."""
        code = self.segments.get(context.cs)
        return "cs" in context.ldt or (code is not None and not code.long)

    def gate_of(self, event: str) -> Gate | None:
        return next((g for g in self.gates.values() if g.event == event), None)

    def msr(self, number: int) -> int | None:
        """The offset of a model-specific register in the region `MSRS`; None for one that is not modelled there."""
        found = self.datum(msr_name(number))
        return None if found is None else found[1].offset

    def datum(self, name: str) -> tuple[Region, Datum] | None:
        for region in self.regions.values():
            for datum in region.data:
                if datum.name == name:
                    return region, datum
        return None
