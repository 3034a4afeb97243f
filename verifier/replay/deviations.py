"""Where an emulator leaves the manual: each with the exact wrong values it has instead, so that nothing else passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.lift import lift
from verifier.machine.events import EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verifier.machine.config import MachineConfig
    from verifier.replay.course import Leg

#: What is compared: a register by name, ``nmi_blocked``, or bytes of memory by address and size.
Item = str | tuple[int, int]
Values = Mapping[Item, int]

_RF = 1 << 16
_EXT = 1


@dataclass(frozen=True, slots=True)
class Deviation:
    """One way in which an emulator is known to be wrong.

    ``manual``: what should be, with its source; ``does``: what the emulator does; ``wrong``: the values it has
    instead of those of a step, or none if the step does not bring it out.
    """

    name: str
    emulator: str
    manual: str
    does: str
    wrong: Callable[[MachineConfig, Leg, Values], Values]


def _frame(leg: Leg) -> tuple[str, int, bool] | None:
    """The last event that a step delivered: its name, the address of its frame's rip, and if it has an error code."""
    if not leg.outcome.delivered or leg.outcome.ended not in (None, "home"):
        return None
    name, rsp = leg.outcome.delivered[-1], leg.outcome.state.cells["rsp"]
    coded = name in EVENTS and EVENTS[name].error_code
    return name, rsp + (8 if coded else 0), coded


def _return_size(machine: MachineConfig, leg: Leg) -> int | None:
    """The operand size of the IRET that a step executes, or None."""
    instruction = machine.program.instructions.get(leg.before.rip)
    if leg.move.action != "execute" or instruction is None:
        return None
    last = lift(instruction).terminator
    return last.attr if last.opcode == "iret" and isinstance(last.attr, int) else None


def _faulted_iret(machine: MachineConfig, leg: Leg, right: Values) -> Values:
    if _return_size(machine, leg) is None or not leg.outcome.delivered or not leg.before.nmi_blocked:
        return {}
    return {"nmi_blocked": 1} if right.get("nmi_blocked") == 0 else {}


def _truncated_rsp(machine: MachineConfig, leg: Leg, _right: Values) -> Values:
    """Where the manual has a #GP: the page that the truncated RSP points to does not exist, and the fault is a #PF."""
    size, frame = _return_size(machine, leg), _frame(leg)
    there, here = machine.gate_of("page_fault"), machine.gate_of("general_protection")
    if size in (None, 64) or frame is None or there is None or here is None or frame[0] != "general_protection":
        return {}
    if (there.stack, there.kind) != (here.stack, here.kind):
        return {}
    cells = leg.before.cells
    mask = 0xFFFF_FFFF if cells["ss"] & ~3 else 0xFFFF
    return {"rip": there.entry, "cr2": cells["rsp"] & mask, (frame[1] - 8, 8): 0}


def _null_selectors(machine: MachineConfig, leg: Leg, right: Values) -> Values:
    if _return_size(machine, leg) is None or leg.outcome.state.cells["cpl"] == leg.before.cells["cpl"]:
        return {}
    selectors = {name: leg.before.cells[name] for name in ("fs", "gs")}
    return {name: value for name, value in selectors.items() if 0 < value < 4 and right.get(name) == 0}


def _no_rf(_machine: MachineConfig, leg: Leg, right: Values) -> Values:
    frame = _frame(leg)
    if frame is None or frame[0] not in EVENTS or not EVENTS[frame[0]].saved_rf or leg.before.cells["rf"]:
        return {}
    place = (frame[1] + 16, 8)
    return {place: right[place] & ~_RF} if place in right else {}


def _no_ext(_machine: MachineConfig, leg: Leg, right: Values) -> Values:
    frame = _frame(leg)
    if frame is None or not frame[2]:
        return {}
    place = (frame[1] - 8, 8)
    return {place: right[place] & ~_EXT} if right.get(place, 0) & _EXT else {}


DEVIATIONS = (
    Deviation(
        "faulting-iret-keeps-nmis-blocked",
        "qemu",
        "an IRET ends the NMI block also if it faults (SDM vol. 3A, Interrupts, \"Handling Multiple NMIs\"; rule N4)",
        "the block ends only when an IRET has succeeded (`helper_iret_protected` clears `HF2_NMI_MASK` at its end)",
        _faulted_iret,
    ),
    Deviation(
        "short-iret-truncates-rsp",
        "qemu",
        "in 64-bit mode the stack is addressed by all of RSP, whatever the operand size (SDM vol. 1, Procedure Calls, "
        "\"Stack Behavior in 64-Bit Mode\"; rule R3)",
        "IRET with an operand of 16 or 32 bits pops at RSP modulo 2^32, or modulo 2^16 if SS is null (`get_sp_mask`)",
        _truncated_rsp,
    ),
    Deviation(
        "null-fs-and-gs-stay",
        "qemu",
        "IRET to an outer CPL treats DS, ES, FS and GS alike (SDM vol. 2A, IRET; rule R10)",
        "null selectors 1 to 3 become 0 in DS and ES, and stay in FS and GS (`validate_seg`)",
        _null_selectors,
    ),
    Deviation(
        "no-rf-in-fault-frames",
        "qemu",
        "the RFLAGS that a fault saves have RF=1 (SDM vol. 3B, Debug, \"Instruction-Breakpoint Exception Condition\"; "
        "rule F14)",
        "RF is saved as it was",
        _no_rf,
    ),
    Deviation(
        "ext-is-never-set",
        "qemu",
        "EXT, bit 0 of an error code, is 1 for a fault in the delivery of an event (SDM vol. 3A, Interrupts, "
        "\"Error Code\"; rule F9)",
        "EXT is 0",
        _no_ext,
    ),
)


def known(emulator: str, machine: MachineConfig, leg: Leg, right: Values, got: Values) -> Iterator[Deviation]:
    """The deviations that explain every difference between ``right`` and ``got``; none if one is not explained."""
    differences = {item for item, value in right.items() if got[item] != value}
    found = []
    for deviation in DEVIATIONS:
        if deviation.emulator == emulator:
            wrong = deviation.wrong(machine, leg, right)
            explained = {item for item in differences if item in wrong and wrong[item] == got[item]}
            if explained:
                found.append(deviation)
                differences -= explained
    if not differences:
        yield from found
