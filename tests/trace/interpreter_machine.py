"""A small machine for the interpreter's tests: programs are lists of functions that build a block each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from verifier.asm.program import TEXT_BASE, Instruction, Program, Section
from verifier.ir import CELL_NAMES, RFLAGS_LAYOUT, Access, Builder
from verifier.lift import lift
from verifier.machine.config import Context, Contract, Datum, Gate, MachineConfig, Region, Segment
from verifier.source import Span
from verifier.trace.interpreter import Interpreter
from verifier.trace.run import ConcreteState, Move, Outcome, Start

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from verifier.asm.program import Operand
    from verifier.ir import Block

TEXT = TEXT_BASE
LENGTH = 4
HOME = 0x40_1234
KERNEL_HOME = 0xFFFF_FFFF_9000_0000

NMI_IST = 0xFFFF_8880_0000_1000
RSP0 = 0xFFFF_8880_0000_4000
KSTACK = 0xFFFF_8880_0000_7000
PERCPU = 0xFFFF_8880_0000_A000
READ_ONLY = 0xFFFF_8880_0000_C000
SIZE = 0x1000

KERNEL_RSP = KSTACK + 0x808
USER_RSP = 0x7FFF_FFFF_E008
PLAIN = Access()
STACK = Access(stack=True)
GS = Access(segment="gs")

VECTORS = {
    "debug": 1,
    "nmi": 2,
    "breakpoint": 3,
    "double_fault": 8,
    "stack_fault": 12,
    "general_protection": 13,
    "page_fault": 14,
    "machine_check": 18,
    "irq": 0x20,
}
ENTRIES = {event: TEXT + 0x1000 + 0x10 * vector for event, vector in VECTORS.items()}


def gate(event: str, kind: str = "interrupt", stack: str | None = None, dpl: int = 0) -> Gate:
    return Gate(VECTORS[event], event, ENTRIES[event], kind, stack, dpl)  # type: ignore[arg-type]


GATES = {
    g.vector: g
    for g in (
        gate("debug"),
        gate("nmi", stack="nmi_ist"),
        gate("breakpoint", "trap", dpl=3),
        gate("general_protection"),
        gate("page_fault", "trap"),
        gate("machine_check", "trap", "nmi_ist"),
        gate("irq"),
    )
}
STACK_FAULT_GATE = {12: gate("stack_fault", stack="nmi_ist")}
DOUBLE_FAULT_GATE = {8: gate("double_fault", stack="nmi_ist")}

SEGMENTS = {
    s.selector: s
    for s in (
        Segment(0x10, "code", 0, long=True),
        Segment(0x18, "data", 0),
        Segment(0x23, "code", 3),
        Segment(0x2B, "data", 3),
        Segment(0x33, "code", 3, long=True),
    )
}
REGIONS = {
    r.name: r
    for r in (
        Region("nmi_ist", "stack", SIZE, NMI_IST),
        Region("rsp0", "stack", SIZE, RSP0),
        Region("kstack", "interrupted", SIZE),
        Region("percpu", "percpu", SIZE, PERCPU, data=(Datum("flag", 0x20, 1), Datum("wide", 0x40, 16))),
        Region("constants", "data", 0x10, READ_ONLY, writable=False, contents=bytes(range(1, 17))),
    )
}
USER = Context("user", 3, 0x33, 0x2B, "user", None)
KERNEL = Context("kernel", 0, 0x10, 0x18, "kernel", "kstack")


def span(text: str = "") -> Span:
    return Span("test.S", 1, 1, 2, text)


def instruction(mnemonic: str, *operands: Operand, width: int = 64, **more: object) -> Instruction:
    """An instruction that the real lifter lifts; `Lab` places it."""
    return Instruction(0, bytes(LENGTH), mnemonic, operands, width, mnemonic, span(mnemonic), **more)  # type: ignore[arg-type]


def nop(_b: Builder) -> None:
    pass


class Lab:
    """A machine, its program and an interpreter. Step ``i`` of the program stands at ``at(i)``.

    A step is an instruction to lift, a function that builds its block, or ``hole_enter`` or ``hole_body``.
    """

    def __init__(
        self,
        *steps: Callable[[Builder], object] | Instruction | str,
        gates: Mapping[int, Gate] | None = None,
        contract: Contract | None = None,
        rules: Mapping[str, int] | None = None,
        home: int = KERNEL_HOME,
        start: ConcreteState | None = None,
    ) -> None:
        places = {at(i): step for i, step in enumerate(steps)}
        places |= dict.fromkeys(ENTRIES.values(), instruction("nop"))
        self._build = {address: step for address, step in places.items() if callable(step)}
        self.machine = MachineConfig(
            Program(
                {address: placed(step, address) for address, step in places.items()},
                {},
                (Section(".text", TEXT, bytes(0x2000), True, False),),
            ),
            REGIONS,
            GATES if gates is None else gates,
            SEGMENTS,
            {} if contract is None else {"hole": contract},
            (USER, KERNEL),
            kernel_cs=0x10,
            rsp0="rsp0",
        )
        self.start = Start(start or kernel(), home, {"kstack": KSTACK}, rules or {})
        self._interpreter = Interpreter(self.machine, self.start, self._lift)

    def _lift(self, instruction: Instruction) -> Block:
        if instruction.address not in self._build:
            return lift(instruction)
        builder = Builder(instruction)
        self._build[instruction.address](builder)
        return builder.build()

    def step(self, state: ConcreteState, action: str = "execute", *choices: tuple[str, int]) -> Outcome:
        return self._interpreter.step(state, Move(action, choices))

    def latch(self, state: ConcreteState, action: str = "nmi") -> Outcome:
        return self._interpreter.step(state, Move(action, latch=True))


def placed(step: object, address: int) -> Instruction:
    if isinstance(step, Instruction):
        return replace(step, address=address)
    if isinstance(step, str):
        return replace(instruction(step, hole="hole"), address=address)
    return replace(instruction("built"), address=address)


def at(i: int) -> int:
    return TEXT + LENGTH * i


def memory_of(words: Mapping[int, int], size: int = 8) -> dict[int, int]:
    return {a + i: b for a, w in words.items() for i, b in enumerate(w.to_bytes(size, "little"))}


def kernel(
    rip: int = TEXT,
    words: Mapping[int, int] | None = None,
    blocked: bool = False,
    pending: bool = False,
    **cells: int,
) -> ConcreteState:
    """A state at CPL 0 with every cell 0 but the selectors and RSP. ``if_`` stands for the cell ``if``."""
    base = dict.fromkeys(CELL_NAMES, 0) | {"cs": 0x10, "ss": 0x18, "rsp": KERNEL_RSP}
    given = {name.rstrip("_"): value for name, value in cells.items()}
    assert given.keys() <= base.keys()
    return ConcreteState(rip, base | given, memory_of(words or {}), blocked, pending)


def user(rip: int = HOME, **cells: int) -> ConcreteState:
    state = kernel(rip)
    selectors = {"cs": 0x33, "ss": 0x2B, "cpl": 3, "rsp": USER_RSP, "if": 1}
    given = {name.rstrip("_"): value for name, value in cells.items()}
    return replace(state, cells={**state.cells, **selectors, **given})


def flags_image(**flags: int) -> int:
    return 2 | sum(v << RFLAGS_LAYOUT[f.rstrip("_")][0] for f, v in flags.items())


def words_at(state: ConcreteState, address: int, count: int) -> list[int]:
    return [state.read(address + 8 * i, 8) for i in range(count)]
