"""Where QEMU's translator (TCG 7.2) leaves the manual: rows of `verifier.replay.deviations`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.asm.program import Reg
from verifier.ir.cells import RFLAGS_LAYOUT
from verifier.lift import lift
from verifier.machine.events import EVENTS
from verifier.replay.deviation import (
    MASK,
    RF,
    Deviation,
    frame_of,
    items,
    no_rf_between_iterations,
    return_size,
    returned,
)
from verifier.trace.confirm import rflags
from verifier.trace.interpreter.memory import canonical

if TYPE_CHECKING:
    from verifier.asm.program import Instruction
    from verifier.machine.config import MachineConfig
    from verifier.replay.course import Leg
    from verifier.replay.deviation import Item, Values

_GENERAL_PROTECTION = 13
_VM, _VIF_VIP = 1 << 17, 3 << 19
_EXT, _IDT = 1, 2


def _faulted_iret(machine: MachineConfig, leg: Leg, right: Values) -> Values:
    if return_size(machine, leg) is None or not leg.outcome.delivered or not leg.before.nmi_blocked:
        return {}
    return {"nmi_blocked": 1} if right.get("nmi_blocked") == 0 else {}


def _truncated_rsp(machine: MachineConfig, leg: Leg, _right: Values) -> Values:
    """Whatever the return should do: the page that the truncated RSP points to does not exist, and that is a #PF."""
    size, gate, cells = return_size(machine, leg), machine.gate_of("page_fault"), leg.before.cells
    if size in (None, 64) or gate is None or gate.ist or cells["cpl"] or cells["nt"]:
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
    if return_size(machine, leg) is None or leg.outcome.state.cells["cpl"] == leg.before.cells["cpl"]:
        return {}
    selectors = {name: leg.before.cells[name] for name in ("fs", "gs")}
    return {name: value for name, value in selectors.items() if 0 < value < 4 and right.get(name) == 0}


def _no_rf(_machine: MachineConfig, leg: Leg, right: Values) -> Values:
    frame = frame_of(leg)
    if frame is None or frame[0] not in EVENTS or not EVENTS[frame[0]].saved_rf:
        return {}
    # Hidden code may run on before it faults, and clear RF.
    if dict(leg.move.choices).get("hole.rf", leg.before.cells["rf"]):
        return {}
    place = (frame[1] + 16, 8)
    return {place: right[place] & ~RF} if place in right else {}


def _no_ext(_machine: MachineConfig, leg: Leg, right: Values) -> Values:
    frame = frame_of(leg)
    if frame is None or not frame[2]:
        return {}
    place = (frame[1] - 8, 8)
    return {place: right[place] & ~_EXT} if right.get(place, 0) & _EXT else {}


def _bad_target(machine: MachineConfig, leg: Leg, right: Values) -> Values:
    """The return is made, and the fetch at its target faults in the next step."""
    if return_size(machine, leg) != 64 or leg.before.cells["nt"]:
        return {}
    rip, cs, flags, rsp, ss = items(machine, leg, 5, 8)
    if rip >> 47 in (0, 0x1FFFF):
        return {}
    registers = {"rip": rip, "cs": cs & 0xFFFF, "ss": ss & 0xFFFF, "rsp": rsp}
    if cs & 3 > leg.before.cells["cpl"]:
        segments = {name: machine.segments.get(leg.before.cells[name]) for name in ("ds", "es", "fs", "gs")}
        registers |= {name: 0 for name, segment in segments.items() if segment is not None and segment.dpl < cs & 3}
    return returned(leg, right, 64, registers, flags & ~RF if leg.before.cells["rf"] else flags)


def _lost_rf(machine: MachineConfig, leg: Leg, right: Values) -> Values:
    if return_size(machine, leg) is None or not leg.before.cells["rf"] or leg.outcome.delivered:
        return {}
    return {"rflags": right["rflags"] & ~RF}


def _instruction(machine: MachineConfig, leg: Leg) -> Instruction | None:
    return machine.program.instructions.get(leg.before.rip) if leg.move.action == "execute" else None


def _general_protection(machine: MachineConfig, leg: Leg, _right: Values) -> Values:
    gate = machine.gates.get(_GENERAL_PROTECTION)
    if leg.outcome.delivered[-1:] != ("stack_fault",) or gate is None:
        return {}
    return {"rip": gate.entry}


def _bad_branch(machine: MachineConfig, leg: Leg, right: Values) -> Values:
    """The branch is made: registers and memory as after it, and the fetch faults in the next step."""
    instruction = _instruction(machine, leg)
    if instruction is None or leg.outcome.delivered[-1:] != ("general_protection",):
        return {}
    target = _target(machine, instruction, leg)
    if target is None or canonical(target):
        return {}
    rsp = leg.before.cells["rsp"] + {"jmp": 0, "call": -8, "ret": 8}[instruction.mnemonic] & MASK
    wrong = _undone(leg, right) | {"rip": target, "rsp": rsp}
    if instruction.mnemonic == "call":
        wrong |= {(rsp, 8): instruction.next_address}
    return wrong


def _target(machine: MachineConfig, instruction: Instruction, leg: Leg) -> int | None:
    """Where a near branch through a register, or a RET, goes."""
    if instruction.mnemonic == "ret" and not instruction.operands:
        return items(machine, leg, 1, 8)[0]
    if instruction.mnemonic in ("jmp", "call") and isinstance(instruction.operands[0], Reg):
        return leg.before.cells[instruction.operands[0].name]
    return None


def _undone(leg: Leg, right: Values) -> dict[Item, int]:
    """What a step without a fault leaves alone: the flags but RF, the stack segment, and all memory."""
    memory = {item: leg.before.read(*item) for item in right if not isinstance(item, str)}
    return memory | {name: leg.before.cells[name] for name in ("rsp", "cs", "ss")}


def _bad_base(machine: MachineConfig, leg: Leg, right: Values) -> Values:
    instruction, cells = _instruction(machine, leg), leg.before.cells
    bases = {0xC000_0100: "fs_base", 0xC000_0101: "gs_base", 0xC000_0102: "kernel_gs_base"}
    base = bases.get(cells["rcx"] & 0xFFFF_FFFF)
    value = (cells["rdx"] & 0xFFFF_FFFF) << 32 | cells["rax"] & 0xFFFF_FFFF
    if instruction is None or instruction.mnemonic != "wrmsr" or base is None or canonical(value):
        return {}
    return _undone(leg, right) | {"rip": instruction.next_address, base: value}


def _gate_error(machine: MachineConfig, leg: Leg, right: Values) -> Values:
    """The error code of a gate that INT n may not use: twice the vector's place."""
    instruction = _instruction(machine, leg)
    if instruction is None or leg.outcome.delivered != ("general_protection",):
        return {}
    place = (leg.outcome.state.cells["rsp"], 8)
    if lift(instruction).terminator.opcode != "interrupt" or not right.get(place, 0) & _IDT:
        return {}
    return {place: right[place] >> 3 << 4 | _IDT}


def _any_null(machine: MachineConfig, leg: Leg, right: Values) -> Values:
    """The selector is loaded."""
    instruction = _instruction(machine, leg)
    if instruction is None or instruction.mnemonic != "mov" or leg.outcome.delivered[-1:] != ("general_protection",):
        return {}
    source, target = instruction.operands
    if not (isinstance(target, Reg) and target.name == "ss" and isinstance(source, Reg)):
        return {}
    selector = leg.before.cells[source.name] & 0xFFFF
    return {} if selector & ~3 else _undone(leg, right) | {"rip": instruction.next_address, "ss": selector}


def _wide_rip(machine: MachineConfig, leg: Leg, right: Values) -> Values:
    """The upper half of RIP is kept."""
    instruction = _instruction(machine, leg)
    if instruction is None or instruction.mnemonic != "iret" or leg.outcome.delivered:
        return {}
    (rip,) = items(machine, leg, 1, 8)
    return {"rip": rip} if rip & 0xFFFF_FFFF == right.get("rip") and rip != right["rip"] else {}


def _virtual_interrupts(machine: MachineConfig, leg: Leg, right: Values) -> Values:
    """VIF and VIP stay; SYSRET loads RF and VM."""
    instruction = _instruction(machine, leg)
    opcode = lift(instruction).terminator.opcode if instruction is not None else ""
    if opcode not in ("iret", "sysret") or leg.outcome.delivered:
        return {}
    kept = leg.before.cells["vif"] << 19 | leg.before.cells["vip"] << 20
    more = leg.before.cells["r11"] & (_VM | RF) if opcode == "sysret" else 0
    return {"rflags": right["rflags"] & ~_VIF_VIP | kept | more}


QEMU = (
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
        no_rf_between_iterations,
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
        "gp-for-stack-faults",
        "qemu",
        "an address that is not canonical is #SS through RSP or RBP (SDM vol. 3A, Interrupts, "
        "\"Stack Fault Exception\"; rules A2, F5)",
        "it is #GP for every address",
        _general_protection,
    ),
    Deviation(
        "branch-to-a-bad-rip-is-made",
        "qemu",
        "a near branch to an address that is not canonical is #GP(0) at the branch (SDM vol. 2A, JMP; rule A3)",
        "the branch is made, and the next fetch is #GP(0)",
        _bad_branch,
    ),
    Deviation(
        "wrmsr-takes-any-base",
        "qemu",
        "WRMSR of a base that is not canonical is #GP(0) (SDM vol. 2B, WRMSR; rule I9)",
        "the base is set",
        _bad_base,
    ),
    Deviation(
        "gate-errors-count-double",
        "qemu",
        "the error code of a gate is vector * 8 + 2 (SDM vol. 3A, Interrupts, \"Error Code\"; rules F2, F9)",
        "it is vector * 16 + 2 (`raise_exception_err` in `do_interrupt64`)",
        _gate_error,
    ),
    Deviation(
        "mov-takes-any-null-ss",
        "qemu",
        "MOV of a null selector to SS whose RPL is not the CPL is #GP(0) (SDM vol. 2B, MOV; rule I11)",
        "it is loaded",
        _any_null,
    ),
    Deviation(
        "wide-rip-in-compatibility-mode",
        "qemu",
        "RIP of code that is not 64-bit is below 4 GB (SDM vol. 2A, IRET; rule R6)",
        "IRET keeps the upper half of RIP",
        _wide_rip,
    ),
    Deviation(
        "virtual-interrupt-flags-stay",
        "qemu",
        "IRET and SYSRET at CPL 0 load VIF and VIP, and SYSRET clears RF and VM (SDM vol. 2; rules R9, I8)",
        "VIF and VIP stay, and SYSRET loads RF and VM",
        _virtual_interrupts,
    ),
)
