"""Segment, control and debug registers as operands of MOV, PUSH and POP.

Loading a segment register puts the selector; the descriptor that it names is not read here. So a base of FS
or GS that comes from a descriptor is any value, and for a null selector too (AMD keeps it, Intel clears it).

Moves to and from control and debug registers leave the status flags undefined (SDM vol. 2B).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.asm.program import GENERAL_REGISTERS, SEGMENT_REGISTERS, Reg
from verifier.ir.cells import STATUS_FLAGS
from verifier.lift import privilege, status

if TYPE_CHECKING:
    from verifier.ir.ops import Value
    from verifier.lift.lifter import Lifter

MOV_SS_SHADOW = 2
#: PG, CD, NW, AM, WP, NE, TS, EM, MP, PE.
_CR0_WRITABLE = 0xE005_002F
_CR0_ET = 1 << 4
#: RTM and BLD: not there on every processor, and 1 on the others.
_DR6_OPTIONAL = 1 << 16 | 1 << 11
#: BT, BS, BD, B3 to B0.
_DR6_WRITABLE = 0xE00F | _DR6_OPTIONAL
_DR6_ONES = 0xFFFE_07F0


def is_special(register: Reg) -> bool:
    """Whether it is none of the general registers."""
    return register.name not in GENERAL_REGISTERS


def move_from(b: Lifter, register: Reg) -> Value:
    if register.name in SEGMENT_REGISTERS:
        return b.get(register.name)
    privilege.require_cpl0(b)
    status.put_undefined(b, *STATUS_FLAGS)
    value = b.read(register)
    # CR3[63] is the PCID no-flush request of a write and is never stored.
    return b.zext(b.extract(value, 62, 0), 64) if register.name == "cr3" else value


def move_to(b: Lifter, register: Reg) -> None:
    value = b.read(b.source)
    if register.name not in SEGMENT_REGISTERS:
        _move_to_control(b, register, value)
        return
    load_selector(b, register.name, b.extract(value, 15, 0))


def load_selector(b: Lifter, name: str, selector: Value) -> None:
    """SDM vol. 2B, MOV, loading a segment register."""
    if name == "cs":
        b.unsupported("loading %cs")
    if name == "ss":
        b.put("inhibit", b.const(MOV_SS_SHADOW, 2))
        wrong_rpl = b.invert(b.binary("eq", b.extract(selector, 1, 0), b.get("cpl")))
        index = b.concat(b.extract(selector, 15, 2), b.const(0, 2))
        b.fault_if(wrong_rpl, privilege.GENERAL_PROTECTION, b.zext(index, 32))
    b.put(name, selector)
    if name in ("fs", "gs"):
        b.put(f"{name}_base", b.undef(64))


def _move_to_control(b: Lifter, register: Reg, value: Value) -> None:
    privilege.require_cpl0(b)
    status.put_undefined(b, *STATUS_FLAGS)
    _check_control(b, register.name, value)
    b.write(register, _kept(b, register.name, value))


def _kept(b: Lifter, name: str, value: Value) -> Value:
    """What the register holds of a value that was written to it.

    SDM vol. 3A 2.5 and vol. 2B: reserved bits of CR0[31:0] are ignored and ET is always 1. Vol. 3B, DR6: reserved bits
    are always 1, or (bit 12) 0; BLD and RTM are too, on processors that have them not.
    """
    if name == "cr0":
        return _masked(b, value, _CR0_WRITABLE, _CR0_ET)
    if name == "cr3":
        return b.zext(b.extract(value, 62, 0), 64)
    if name == "dr6":
        optional = b.binary("and", b.undef(64), b.const(_DR6_OPTIONAL, 64))
        return b.binary("or", _masked(b, value, _DR6_WRITABLE, _DR6_ONES), optional)
    return value


def _masked(b: Lifter, value: Value, writable: int, ones: int) -> Value:
    return b.binary("or", b.binary("and", value, b.const(writable, 64)), b.const(ones, 64))


def _check_control(b: Lifter, name: str, value: Value) -> None:
    """The #GP(0) of SDM vol. 2B, MOV to control and debug registers.

    CR0.PG, CR0.PE and CR4.PAE cannot be cleared, nor CR4.LA57 changed, in 64-bit mode; CR4.PCIDE cannot be
    set unless CR3[11:0] is 0. Reserved bits of CR3 and CR4 depend on the processor and are not checked.
    """
    match name:
        case "cr0":
            _fault_unless_zero(b, b.extract(value, 63, 32))
            privilege.protect(b, b.invert(b.binary("and", b.bit(value, 31), b.bit(value, 0))))
            privilege.protect(b, b.binary("and", b.bit(value, 29), b.invert(b.bit(value, 30))))
        case "cr3":
            no_pcid = b.invert(b.bit(b.get("cr4"), 17))
            privilege.protect(b, b.binary("and", b.bit(value, 63), no_pcid))
        case "cr4":
            privilege.protect(b, b.invert(b.bit(value, 5)))
            privilege.protect(b, b.binary("xor", b.bit(value, 12), b.bit(b.get("cr4"), 12)))
            set_pcide = b.binary("and", b.bit(value, 17), b.invert(b.bit(b.get("cr4"), 17)))
            pcid = b.extract(b.get("cr3"), 11, 0)
            privilege.protect(b, b.binary("and", set_pcide, b.invert(b.is_zero(pcid))))
        case "cr8":
            _fault_unless_zero(b, b.extract(value, 63, 4))
        case "dr6":
            _fault_unless_zero(b, b.extract(value, 63, 32))


def _fault_unless_zero(b: Lifter, reserved: Value) -> None:
    privilege.protect(b, b.invert(b.is_zero(reserved)))
