"""Delivery of one event through the IDT in 64-bit mode (rules F1-F17, H1-H5; SDM vol. 3A 6.12-6.15)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.errors import InternalError
from verifier.machine.events import BY_VECTOR, EVENTS, MCG_STATUS
from verifier.trace.interpreter.memory import GENERAL_PROTECTION, STACK_FAULT, all_canonical, canonical
from verifier.trace.interpreter.work import MASK64, Fault, Mishap

if TYPE_CHECKING:
    from verifier.machine.config import Gate, MachineConfig
    from verifier.machine.events import Event, FaultClass
    from verifier.trace.interpreter.memory import Memory
    from verifier.trace.interpreter.work import Work
    from verifier.trace.run import Start

RF_BIT = 1 << 16
DR6_BS = 1 << 14
MCIP = 1 << 2
#: Just above the lower canonical half.
LOWER_END = 1 << 47

#: First and second fault class that make a double fault (H2); everything else is handled serially.
DOUBLE: frozenset[tuple[FaultClass, FaultClass]] = frozenset(
    (("contributory", "contributory"), ("page", "contributory"), ("page", "page"))
)


@dataclass(frozen=True, slots=True)
class Strike:
    """One event on its way to its handler.

    ``gate`` None: its vector has none. ``rip``: what the frame says; ``restart``: what that of a fault
    during this delivery says, which for INT n is the instruction itself (F13). ``error`` None: not pushed.
    """

    name: str
    gate: Gate | None
    rip: int
    restart: int
    error: int | None = None
    saved_rf: bool = False
    software: bool = False
    blocks_nmi: bool = False
    fault_class: FaultClass = "benign"


def event_of(vector: int) -> Event:
    if vector not in BY_VECTOR:
        raise InternalError(f"no event is known for vector {vector}")
    return BY_VECTOR[vector]


class Delivery:
    """Takes events to their handlers."""

    def __init__(self, machine: MachineConfig, start: Start, memory: Memory) -> None:
        self._machine = machine
        self._memory = memory
        self._rules = start.rules

    def event(self, work: Work, event: Event, rip: int, error: int | None = None) -> None:
        """An exception or hardware event, with the rip that its frame shows."""
        if event.name == "nmi":
            work.nmi_pending = False
        self._deliver(work, self._strike(event, rip, error))

    def fault(self, work: Work, fault: Fault, rip: int) -> None:
        """A fault of the instruction at ``rip``."""
        event = event_of(fault.vector)
        self.event(work, event, rip, fault.error if event.error_code else None)

    def single_step(self, work: Work) -> None:
        """The trap after an instruction that began with TF=1 (I4, I5)."""
        work.cells["dr6"] |= DR6_BS
        self.event(work, EVENTS["debug"], work.rip)

    def begin_machine_check(self, work: Work) -> None:
        """MCG_STATUS.MCIP, where that register is modelled (E7)."""
        place = self._memory.place_of_msr(MCG_STATUS)
        if place is None:
            return
        if self._memory.read_msr(work, place) & MCIP:
            raise Mishap("shutdown", "machine_check while MCG_STATUS.MCIP is set")
        others = work.choices.take("mcg_status", 4) & ~MCIP
        self._memory.write(work, place, 8, others | MCIP)

    def software(self, work: Work, vector: int, following: int, this: int) -> None:
        """INT n and INT3: no error code, no NMI blocking, whatever the vector (F8, N9)."""
        name = {3: "breakpoint", 4: "overflow"}.get(vector, "software_interrupt")
        self._deliver(work, Strike(name, self._machine.gates.get(vector), following, this, software=True))

    def _deliver(self, work: Work, strike: Strike) -> None:
        while True:
            try:
                self._enter(work, strike)
                return
            except Fault as fault:
                if strike.blocks_nmi and self._rules.get("fault_in_nmi_delivery_blocks", 0):
                    work.nmi_blocked = True
                strike = self._second(strike, fault)

    def _second(self, first: Strike, fault: Fault) -> Strike:
        """What a fault during the delivery of another event leads to (H2, H3)."""
        event, error = event_of(fault.vector), fault.error
        if first.name == "double_fault":
            raise Mishap("shutdown", f"{event.name} while double_fault is delivered")
        if (first.fault_class, event.fault_class) in DOUBLE:
            if EVENTS["double_fault"].vector not in self._machine.gates:
                raise Mishap("double-fault", f"{event.name} while {first.name} is delivered")
            event, error = EVENTS["double_fault"], 0
        return self._strike(event, first.restart, error if event.error_code else None)

    def _strike(self, event: Event, rip: int, error: int | None) -> Strike:
        gates = self._machine.gates
        return Strike(
            event.name,
            self._machine.gate_of(event.name) if event.vector is None else gates.get(event.vector),
            rip=rip,
            restart=rip,
            error=error,
            saved_rf=event.saved_rf,
            software=event.software,
            blocks_nmi=event.blocks_nmi,
            fault_class=event.fault_class,
        )

    def _enter(self, work: Work, strike: Strike) -> None:
        """Push the frame and go to the handler; a `Fault` leaves everything as it was (F15)."""
        gate, cells = strike.gate, work.cells
        if gate is None:
            raise Mishap("no-gate", f"no gate for {strike.name}")
        if strike.software and gate.dpl < cells["cpl"]:
            raise Fault(GENERAL_PROTECTION, gate.vector * 8 + 2)
        self._push_frame(work, strike, self._stack_for(work, gate))
        if cells["cpl"] != 0 or (gate.ist and self._rules.get("ist_nulls_ss", 0)):
            cells["ss"] = 0
        cells["cs"] = self._machine.kernel_cs
        cells["cpl"] = 0
        cells["inhibit"] = 0
        for flag in ("tf", "nt", "rf", "vm") + (("if",) if gate.kind == "interrupt" else ()):
            cells[flag] = 0
        work.rip = gate.entry
        work.nmi_blocked |= strike.blocks_nmi
        work.delivered.append(strike.name)

    def _stack_for(self, work: Work, gate: Gate) -> int:
        """The stack pointer before alignment (F4)."""
        if gate.slot is not None:
            return self._memory.read_datum(work, gate.slot)
        name = gate.stack
        if name is None and work.cells["cpl"] != 0:
            name = self._machine.rsp0
            if name is None:
                raise Mishap("no-gate", f"the frame of {gate.event} needs RSP0, which is not given")
        if name is None:
            return work.cells["rsp"]
        return (self._memory.bases[name] + self._machine.regions[name].size) & MASK64

    def _push_frame(self, work: Work, strike: Strike, rsp: int) -> None:
        """SS, RSP, RFLAGS, CS, RIP and the error code, below the aligned stack pointer (F5 to F7, F14)."""
        cells, top = work.cells, rsp & ~15
        if not canonical(top) and not (top == LOWER_END and self._rules.get("frame_below_the_edge", 0)):
            raise Fault(STACK_FAULT, 0 if strike.software else 1)
        rflags = work.rflags() | (RF_BIT if strike.saved_rf else 0)
        words = [cells["ss"], cells["rsp"], rflags, *self._resumption(work, strike)]
        if strike.error is not None:
            words.append(strike.error)
        lowest = (top - 8 * len(words)) & MASK64
        if not all_canonical(lowest, 8 * len(words)):
            self._push_part(work, top, words)
            raise Fault(STACK_FAULT, 0 if strike.software else 1)
        self._memory.expect_writable(lowest, 8 * len(words))
        for i, word in enumerate(words, 1):
            self._memory.write(work, top - 8 * i, 8, word)
        cells["rsp"] = lowest

    @staticmethod
    def _resumption(work: Work, strike: Strike) -> tuple[int, int]:
        """CS and RIP of a frame; those of #DF are not defined (H6)."""
        if strike.name != "double_fault":
            return work.cells["cs"], strike.rip
        return work.choices.take("double_fault.cs", 16), work.choices.take("double_fault.rip", 64)

    def _push_part(self, work: Work, top: int, words: list[int]) -> None:
        """Of a frame that is not all at canonical addresses, any words that are may have been written (F15)."""
        for i, word in enumerate(words, 1):
            address = (top - 8 * i) & MASK64
            if all_canonical(address, 8) and work.choices.take("frame.written", 1):
                self._memory.write(work, address, 8, word)
