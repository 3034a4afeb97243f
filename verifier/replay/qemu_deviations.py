"""Where QEMU's translator takes addresses and flags that the manual says it must not take: rows of `deviations`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.asm.program import Reg
from verifier.lift import lift
from verifier.trace.interpreter.memory import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from verifier.asm.program import Instruction
    from verifier.machine.config import MachineConfig
    from verifier.replay.course import Leg

    Item = str | tuple[int, int]
    Values = Mapping[Item, int]

_MASK = (1 << 64) - 1
_GENERAL_PROTECTION = 13
_VM, _RF, _VIF_VIP = 1 << 17, 1 << 16, 3 << 19


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
    target = _target(instruction, leg)
    if target is None or canonical(target):
        return {}
    rsp = leg.before.cells["rsp"] + {"jmp": 0, "call": -8, "ret": 8}[instruction.mnemonic] & _MASK
    wrong = _undone(leg, right) | {"rip": target, "rsp": rsp}
    if instruction.mnemonic == "call":
        wrong |= {(rsp, 8): instruction.next_address}
    return wrong


def _target(instruction: Instruction, leg: Leg) -> int | None:
    """Where a near branch through a register, or a RET, goes."""
    if instruction.mnemonic == "ret" and not instruction.operands:
        return leg.before.read(leg.before.cells["rsp"], 8)
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


def _wide_rip(machine: MachineConfig, leg: Leg, right: Values) -> Values:
    """The upper half of RIP is kept."""
    instruction = _instruction(machine, leg)
    if instruction is None or instruction.mnemonic != "iret" or leg.outcome.delivered:
        return {}
    rip = leg.before.read(leg.before.cells["rsp"], 8)
    return {"rip": rip} if rip & 0xFFFF_FFFF == right.get("rip") and rip != right["rip"] else {}


def _virtual_interrupts(machine: MachineConfig, leg: Leg, right: Values) -> Values:
    """VIF and VIP stay; SYSRET loads RF and VM."""
    instruction = _instruction(machine, leg)
    opcode = lift(instruction).terminator.opcode if instruction is not None else ""
    if opcode not in ("iret", "sysret") or leg.outcome.delivered:
        return {}
    kept = leg.before.cells["vif"] << 19 | leg.before.cells["vip"] << 20
    more = leg.before.cells["r11"] & (_VM | _RF) if opcode == "sysret" else 0
    return {"rflags": right["rflags"] & ~_VIF_VIP | kept | more}


#: name, what the manual says, what QEMU does, the wrong values: see `verifier.replay.deviations.Deviation`.
ROWS: tuple[tuple[str, str, str, Callable[[MachineConfig, Leg, Values], Values]], ...] = (
    (
        "gp-for-stack-faults",
        "an address that is not canonical is #SS through RSP or RBP (SDM vol. 3A, Interrupts, "
        "\"Stack Fault Exception\"; rules A2, F5)",
        "it is #GP for every address",
        _general_protection,
    ),
    (
        "branch-to-a-bad-rip-is-made",
        "a near branch to an address that is not canonical is #GP(0) at the branch (SDM vol. 2A, JMP; rule A3)",
        "the branch is made, and the next fetch is #GP(0)",
        _bad_branch,
    ),
    (
        "wrmsr-takes-any-base",
        "WRMSR of a base that is not canonical is #GP(0) (SDM vol. 2B, WRMSR; rule I9)",
        "the base is set",
        _bad_base,
    ),
    (
        "wide-rip-in-compatibility-mode",
        "RIP of code that is not 64-bit is below 4 GB (SDM vol. 2A, IRET; rule R6)",
        "IRET keeps the upper half of RIP",
        _wide_rip,
    ),
    (
        "virtual-interrupt-flags-stay",
        "IRET and SYSRET at CPL 0 load VIF and VIP, and SYSRET clears RF and VM (SDM vol. 2; rules R9, I8)",
        "VIF and VIP stay, and SYSRET loads RF and VM",
        _virtual_interrupts,
    ),
)
