"""Where an emulator leaves the manual: each with the exact wrong values it has instead, so that nothing else passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifier.ir.cells import RFLAGS_LAYOUT
from verifier.lift import lift
from verifier.machine.events import EVENTS
from verifier.replay.qemu_deviations import ROWS
from verifier.trace.confirm import rflags
from verifier.trace.interpreter.returns import HIGH_FLAGS, LOW_FLAGS

if TYPE_CHECKING:
    from verifier.machine.config import MachineConfig
    from verifier.replay.course import Leg

#: What is compared: a register by name, ``nmi_blocked``, or bytes of memory by address and size.
Item = str | tuple[int, int]
Values = Mapping[Item, int]

_RF = 1 << 16
_MASK = (1 << 64) - 1
_EXT = 1


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


def _frame(leg: Leg) -> tuple[str, int, bool] | None:
    """The last event that a step delivered: its name, the address of its frame's rip, and if it has an error code."""
    if not leg.outcome.delivered or leg.outcome.ended not in (None, "home"):
        return None
    name, rsp = leg.outcome.delivered[-1], leg.outcome.state.cells["rsp"]
    coded = name in EVENTS and EVENTS[name].error_code
    return name, rsp + (8 if coded else 0), coded


def _return_size(machine: MachineConfig, leg: Leg, opcode: str = "iret") -> int | None:
    """The operand size of the IRET (or SYSRET) that a step executes, or None."""
    instruction = machine.program.instructions.get(leg.before.rip)
    if leg.move.action != "execute" or instruction is None:
        return None
    last = lift(instruction).terminator
    return last.attr if last.opcode == opcode and isinstance(last.attr, int) else None


def _faulted_iret(machine: MachineConfig, leg: Leg, right: Values) -> Values:
    if _return_size(machine, leg) is None or not leg.outcome.delivered or not leg.before.nmi_blocked:
        return {}
    return {"nmi_blocked": 1} if right.get("nmi_blocked") == 0 else {}


def _truncated_rsp(machine: MachineConfig, leg: Leg, _right: Values) -> Values:
    """Whatever the return should do: the page that the truncated RSP points to does not exist, and that is a #PF."""
    size, gate, cells = _return_size(machine, leg), machine.gate_of("page_fault"), leg.before.cells
    if size in (None, 64) or gate is None or gate.stack is not None or cells["cpl"] or cells["nt"]:
        return {}
    flags, top = rflags(leg.before), cells["rsp"] & ~15
    cleared = ("tf", "nt", "rf", "vm") + (("if",) if gate.kind == "interrupt" else ())
    frame = (cells["ss"], cells["rsp"], flags, cells["cs"], leg.before.rip, 0)
    registers: dict[Item, int] = {
        "rip": gate.entry,
        "rflags": flags & ~sum(1 << RFLAGS_LAYOUT[flag][0] for flag in cleared),
        "rsp": top - 8 * len(frame),
        "cs": machine.kernel_cs,
        "ss": cells["ss"],
        "cr2": cells["rsp"] & (0xFFFF_FFFF if cells["ss"] & ~3 else 0xFFFF),
        "nmi_blocked": int(leg.before.nmi_blocked),
    }
    return registers | {(top - 8 * i, 8): word for i, word in enumerate(frame, 1)}


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


def _short_pop(machine: MachineConfig, leg: Leg, right: Values) -> Values:
    """Three items are popped, and RSP is counted on as far as the SS in use has an address size."""
    size, cells = _return_size(machine, leg), leg.before.cells
    if size is None or size == 64 or cells["nt"]:
        return {}
    rip, cs, flags = _items(leg, 3, size // 8)
    code = machine.segments.get(cs & 0xFFFF)
    if code is None or code.kind != "code" or code.dpl != cells["cpl"] or cs & 3 != cells["cpl"]:
        return {}
    wide = 0xFFFF_FFFF if cells["ss"] & ~3 else 0xFFFF
    rsp = cells["rsp"] & ~wide | cells["rsp"] + 3 * size // 8 & wide
    rsp &= _MASK if code.long else 0xFFFF_FFFF
    return _returned(leg, right, size, {"rip": rip, "cs": cs & 0xFFFF, "ss": cells["ss"], "rsp": rsp}, flags)


def _items(leg: Leg, count: int, size: int) -> list[int]:
    """What lies on the stack, in items of ``size`` bytes."""
    return [leg.before.read(leg.before.cells["rsp"] + i * size & _MASK, size) for i in range(count)]


def _returned(leg: Leg, right: Values, size: int, registers: Mapping[str, int], flags: int) -> Values:
    """A return instead of a fault: with these registers and popped flags, and without a frame. Rule R9."""
    cells = leg.before.cells
    loaded = LOW_FLAGS + (() if size == 16 else HIGH_FLAGS) + (("if",) if cells["cpl"] <= cells["iopl"] else ())
    if cells["cpl"] == 0:
        loaded += ("iopl",) if size == 16 else ("iopl", "vif", "vip")
    mask = sum((1 << RFLAGS_LAYOUT[flag][1]) - 1 << RFLAGS_LAYOUT[flag][0] for flag in loaded)
    found: dict[Item, int] = {"rflags": flags & mask | rflags(leg.before) & ~(mask | _RF)}
    found.update(registers)
    return found | {item: leg.before.read(*item) for item in right if not isinstance(item, str)}


def _bad_target(machine: MachineConfig, leg: Leg, right: Values) -> Values:
    """The return is made, and the fetch at its target faults in the next step."""
    if _return_size(machine, leg) != 64 or leg.before.cells["nt"]:
        return {}
    rip, cs, flags, rsp, ss = _items(leg, 5, 8)
    if rip >> 47 in (0, 0x1FFFF):
        return {}
    registers = {"rip": rip, "cs": cs & 0xFFFF, "ss": ss & 0xFFFF, "rsp": rsp}
    if cs & 3 > leg.before.cells["cpl"]:
        segments = {name: machine.segments.get(leg.before.cells[name]) for name in ("ds", "es", "fs", "gs")}
        registers |= {name: 0 for name, segment in segments.items() if segment is not None and segment.dpl < cs & 3}
    return _returned(leg, right, 64, registers, flags & ~_RF if leg.before.cells["rf"] else flags)


def _lost_rf(machine: MachineConfig, leg: Leg, right: Values) -> Values:
    if _return_size(machine, leg) is None or not leg.before.cells["rf"] or leg.outcome.delivered:
        return {}
    return {"rflags": right["rflags"] & ~_RF}


def _sysret_rf(machine: MachineConfig, leg: Leg, right: Values) -> Values:
    """RF comes from R11 too."""
    if _return_size(machine, leg, "sysret") is None:
        return {}
    place = _flags_place(leg)
    return {place: right[place] | leg.before.cells["r11"] & _RF} if place in right else {}


def _flags_place(leg: Leg) -> Item:
    """Where the RFLAGS of an instruction are after it: in the frame of the #DB that followed it, or where they were."""
    frame = _frame(leg)
    return (frame[1] + 16, 8) if frame is not None and frame[0] == "debug" else "rflags"


def _iteration_rf(machine: MachineConfig, leg: Leg, right: Values) -> Values:
    instruction = machine.program.instructions.get(leg.before.rip)
    if leg.move.action != "execute" or instruction is None or not instruction.prefixes:
        return {}
    place, state = _flags_place(leg), leg.outcome.state
    after = state.rip if isinstance(place, str) else state.read(place[0] - 16, 8)
    return {place: right[place] & ~_RF} if after == leg.before.rip and place in right else {}


def _double_fault_rf(_machine: MachineConfig, leg: Leg, right: Values) -> Values:
    frame = _frame(leg)
    if frame is None or frame[0] != "double_fault":
        return {}
    place = (frame[1] + 16, 8)
    return {place: right[place] | _RF} if place in right else {}


def _second_shadow(machine: MachineConfig, leg: Leg, _right: Values) -> Values:
    """What a driver tells of the shadow itself."""
    instruction, before = machine.program.instructions.get(leg.before.rip), leg.before.cells
    if leg.move.action != "execute" or instruction is None or not before["inhibit"] or leg.outcome.delivered:
        return {}
    if instruction.mnemonic == "sti" and not before["if"]:
        return {"inhibit": 1}
    loads_ss = any(op.opcode == "put" and op.attr == "ss" for op in lift(instruction))
    return {"inhibit": 2} if loads_ss and before["inhibit"] == 1 else {}


def _early_push(machine: MachineConfig, leg: Leg, right: Values) -> Values:
    instruction = machine.program.instructions.get(leg.before.rip)
    if leg.move.action != "execute" or instruction is None or instruction.mnemonic != "call":
        return {}
    place = (leg.before.cells["rsp"] - 8 & _MASK, 8)
    faulted = "general_protection" in leg.outcome.delivered and place in right
    return {place: instruction.address + instruction.length} if faulted else {}


def _narrow_rsp(machine: MachineConfig, leg: Leg, right: Values) -> Values:
    """RSP loses its upper half where a 32-bit segment is entered; a #DB right after that has saved such a one."""
    frame = _frame(leg)
    if frame is not None and frame[0] == "debug":
        cs, place = leg.outcome.state.read(frame[1] + 8, 8), (frame[1] + 24, 8)
        narrow: Item = place
    else:
        cs, narrow = leg.outcome.state.cells["cs"], "rsp"
    code = machine.segments.get(cs)
    return {narrow: right[narrow] & 0xFFFF_FFFF} if code is not None and not code.long and narrow in right else {}


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
        "iretq-to-a-bad-rip-is-made",
        "qemu",
        "IRET to a RIP that is not canonical is #GP(0), and the frame has the IRET (SDM vol. 2A, IRET; rule R6)",
        "everything is popped, and the next fetch is #GP(0): the frame has the bad RIP (`helper_ret_protected`)",
        _bad_target,
    ),
    Deviation(
        "iret-with-rf-loses-rf",
        "qemu",
        "IRET loads RF from the frame (SDM vol. 2A, IRET; rule R9)",
        "an IRET that began with RF=1 ends with RF=0 (`gen_eob` resets RF after it was loaded)",
        _lost_rf,
    ),
    Deviation(
        "no-rf-between-iterations",
        "qemu",
        "an event between the iterations of a string instruction saves RF=1 (SDM vol. 3B, Debug, "
        "\"Instruction-Breakpoint Exception Condition\"; rules N11 and F14)",
        "RF is 0 then",
        _iteration_rf,
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
        _iteration_rf,
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
        "second-shadow-of-another-kind",
        "bochs",
        "of shadows in a row only the first is sure (SDM vol. 2B, MOV and STI; rule S4: one way for a whole run)",
        "MOV SS in the shadow of MOV SS casts none; STI, and MOV SS in the shadow of STI, do (`inhibit_interrupts`)",
        _second_shadow,
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
    *(Deviation(name, "qemu", manual, does, wrong) for name, manual, does, wrong in ROWS),
)


def known(
    emulator: str, machine: MachineConfig, leg: Leg, right: Values, got: Values
) -> list[tuple[Deviation, Values]]:
    """The deviations that explain every difference between ``right`` and ``got``, each with its wrong values.

    None if a difference is not explained.
    """
    differences = {item for item, value in right.items() if got[item] != value}
    found: list[tuple[Deviation, Values]] = []
    for deviation in DEVIATIONS:
        if deviation.emulator == emulator:
            wrong = deviation.wrong(machine, leg, right)
            explained = {item for item in differences if item in wrong and wrong[item] == got[item]}
            if explained:
                found.append((deviation, wrong))
                differences -= explained
    return [] if differences else found
