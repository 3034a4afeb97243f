"""Where Bochs 2.7 leaves the manual: rows of `verifier.replay.deviations`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.replay.deviation import (
    MASK,
    RF,
    Deviation,
    flags_place,
    frame_of,
    items,
    no_rf_between_iterations,
    return_size,
    returned,
)

if TYPE_CHECKING:
    from verifier.machine.config import MachineConfig
    from verifier.replay.course import Leg
    from verifier.replay.deviation import Item, Values


def _short_pop(machine: MachineConfig, leg: Leg, right: Values) -> Values:
    """Three items are popped, and RSP is counted on as far as the SS in use has an address size."""
    size, cells = return_size(machine, leg), leg.before.cells
    if size is None or size == 64 or cells["nt"]:
        return {}
    rip, cs, flags = items(machine, leg, 3, size // 8)
    code = machine.segments.get(cs & 0xFFFF)
    if code is None or code.kind != "code" or code.dpl != cells["cpl"] or cs & 3 != cells["cpl"]:
        return {}
    wide = 0xFFFF_FFFF if cells["ss"] & ~3 else 0xFFFF
    rsp = cells["rsp"] & ~wide | cells["rsp"] + 3 * size // 8 & wide
    rsp &= MASK if code.long else 0xFFFF_FFFF
    return returned(leg, right, size, {"rip": rip, "cs": cs & 0xFFFF, "ss": cells["ss"], "rsp": rsp}, flags)


def _sysret_rf(machine: MachineConfig, leg: Leg, right: Values) -> Values:
    """RF comes from R11 too."""
    if return_size(machine, leg, "sysret") is None:
        return {}
    place = flags_place(leg)
    return {place: right[place] | leg.before.cells["r11"] & RF} if place in right else {}


def _double_fault_rf(_machine: MachineConfig, leg: Leg, right: Values) -> Values:
    frame = frame_of(leg)
    if frame is None or frame[0] != "double_fault":
        return {}
    place = (frame[1] + 16, 8)
    return {place: right[place] | RF} if place in right else {}


def _early_push(machine: MachineConfig, leg: Leg, right: Values) -> Values:
    instruction = machine.program.instructions.get(leg.before.rip)
    if leg.move.action != "execute" or instruction is None or instruction.mnemonic != "call":
        return {}
    place = (leg.before.cells["rsp"] - 8 & MASK, 8)
    faulted = "general_protection" in leg.outcome.delivered and place in right
    return {place: instruction.address + instruction.length} if faulted else {}


def _narrow_rsp(machine: MachineConfig, leg: Leg, right: Values) -> Values:
    """RSP loses its upper half where a 32-bit segment is entered; a #DB right after that has saved such a one."""
    frame = frame_of(leg)
    if frame is not None and frame[0] == "debug":
        cs, place = leg.outcome.state.read(frame[1] + 8, 8), (frame[1] + 24, 8)
        narrow: Item = place
    else:
        cs, narrow = leg.outcome.state.cells["cs"], "rsp"
    code = machine.segments.get(cs)
    return {narrow: right[narrow] & 0xFFFF_FFFF} if code is not None and not code.long and narrow in right else {}


BOCHS = (
    Deviation(
        "short-iret-pops-three-items",
        "bochs",
        "in 64-bit mode IRET pops SS and RSP too, whatever the operand size (SDM vol. 2A, IRET; rule R3)",
        "IRET with an operand of 16 or 32 bits to the same CPL pops three items, and adds to SP or ESP (`long_iret`)",
        _short_pop,
    ),
    Deviation(
        "sysret-loads-rf",
        "bochs",
        "SYSRET clears RF (SDM vol. 2B, SYSRET; rule I8)",
        "RF comes from R11",
        _sysret_rf,
    ),
    Deviation(
        "no-rf-between-iterations",
        "bochs",
        "an event between the iterations of a string instruction saves RF=1 (SDM vol. 3B, Debug, "
        "\"Instruction-Breakpoint Exception Condition\"; rules N11 and F14)",
        "RF is 0 then",
        no_rf_between_iterations,
    ),
    Deviation(
        "rf-in-frames-of-double-faults",
        "bochs",
        "#DF is an abort: it saves RF as it is (SDM vol. 3B, Debug, \"Instruction-Breakpoint Exception Condition\"; "
        "rule F14)",
        "RF is 1, from the fault before",
        _double_fault_rf,
    ),
    Deviation(
        "call-pushes-before-it-faults",
        "bochs",
        "CALL of an address that is not canonical does nothing but fault (so does an AMD EPYC; rule A3)",
        "the return address has been written already, below RSP",
        _early_push,
    ),
    Deviation(
        "narrow-rsp-in-compatibility-mode",
        "bochs",
        "the upper half of RSP is left open where a 32-bit segment is entered (SDM vol. 1, 3.4.1.1); here it stays",
        "it becomes 0 (`handleCpuModeChange`)",
        _narrow_rsp,
    ),
)
