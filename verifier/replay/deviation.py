"""What a named deviation of an emulator is, and what the tables of them share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.ir.cells import RFLAGS_LAYOUT
from verifier.lift import lift
from verifier.machine.events import EVENTS
from verifier.trace.confirm import rflags
from verifier.trace.interpreter.returns import HIGH_FLAGS, LOW_FLAGS

if TYPE_CHECKING:
    from verifier.machine.config import MachineConfig
    from verifier.replay.course import Leg

#: What is compared: a register by name, ``nmi_blocked``, or bytes of memory by address and size.
Item = str | tuple[int, int]
Values = Mapping[Item, int]

RF = 1 << 16
MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Deviation:
    """One way in which an emulator is known to be wrong.

    ``manual``: what should be, with its source; ``does``: what the emulator does; ``wrong``: the values it has
    instead of those of a step, memory that the step should not have changed included; none if the step does not bring
    it out.
    """

    name: str
    emulator: str
    manual: str
    does: str
    wrong: Callable[[MachineConfig, Leg, Values], Values]


def frame_of(leg: Leg) -> tuple[str, int, bool] | None:
    """The last event that a step delivered: its name, the address of its frame's rip, and if it has an error code."""
    if not leg.outcome.delivered or leg.outcome.ended not in (None, "home"):
        return None
    name, rsp = leg.outcome.delivered[-1], leg.outcome.state.cells["rsp"]
    coded = name in EVENTS and EVENTS[name].error_code
    return name, rsp + (8 if coded else 0), coded


def return_size(machine: MachineConfig, leg: Leg, opcode: str = "iret") -> int | None:
    """The operand size of the IRET (or SYSRET) that a step executes, or None."""
    instruction = machine.program.instructions.get(leg.before.rip)
    if leg.move.action != "execute" or instruction is None:
        return None
    last = lift(instruction).terminator
    return last.attr if last.opcode == opcode and isinstance(last.attr, int) else None


def items(machine: MachineConfig, leg: Leg, count: int, size: int) -> list[int]:
    """What lies on the stack, in items of ``size`` bytes: also in read-only memory, which no state holds."""
    fixed = [r for r in machine.regions.values() if not r.writable and r.address is not None]

    def byte(address: int) -> int:
        for region in fixed:
            offset = address - (region.address or 0)
            if 0 <= offset < region.size:
                return region.contents[offset]
        return leg.before.memory.get(address, 0)

    bottom = leg.before.cells["rsp"]
    data = bytes(byte(bottom + i & MASK) for i in range(count * size))
    return [int.from_bytes(data[i : i + size], "little") for i in range(0, len(data), size)]


def returned(leg: Leg, right: Values, size: int, registers: Mapping[str, int], flags: int) -> Values:
    """A return instead of a fault: with these registers and popped flags, and without a frame. Rule R9."""
    cells = leg.before.cells
    loaded = LOW_FLAGS + (() if size == 16 else HIGH_FLAGS) + (("if",) if cells["cpl"] <= cells["iopl"] else ())
    if cells["cpl"] == 0:
        loaded += ("iopl",) if size == 16 else ("iopl", "vif", "vip")
    mask = sum((1 << RFLAGS_LAYOUT[flag][1]) - 1 << RFLAGS_LAYOUT[flag][0] for flag in loaded)
    found: dict[Item, int] = {"rflags": flags & mask | rflags(leg.before) & ~(mask | RF)}
    found.update(registers)
    return found | {item: leg.before.read(*item) for item in right if not isinstance(item, str)}


def flags_place(leg: Leg) -> Item:
    """Where the RFLAGS of an instruction are after it: in the frame of the #DB that followed it, or where they were."""
    frame = frame_of(leg)
    return (frame[1] + 16, 8) if frame is not None and frame[0] == "debug" else "rflags"


def no_rf_between_iterations(machine: MachineConfig, leg: Leg, right: Values) -> Values:
    """Of both emulators: an instruction that goes on with its next iteration leaves RF=0."""
    instruction = machine.program.instructions.get(leg.before.rip)
    if leg.move.action != "execute" or instruction is None or not instruction.prefixes:
        return {}
    place, state = flags_place(leg), leg.outcome.state
    after = state.rip if isinstance(place, str) else state.read(place[0] - 16, 8)
    return {place: right[place] & ~RF} if after == leg.before.rip and place in right else {}
