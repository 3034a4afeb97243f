"""Single flags. SDM vol. 2: STC, CLC, CMC, STD, CLD, STI, CLI, STAC, CLAC, LAHF, SAHF; rules I3, S1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.ir.cells import RFLAGS_LAYOUT
from verifier.lift import privilege
from verifier.lift.lifter import AH
from verifier.lift.registry import instruction

if TYPE_CHECKING:
    from verifier.lift.lifter import Lifter

#: mnemonic -> the flag and the value it gets.
_SET = {"stc": ("cf", 1), "clc": ("cf", 0), "std": ("df", 1), "cld": ("df", 0)}
_LOW_FLAGS = ("sf", "zf", "af", "pf", "cf")


@instruction(*_SET)
def set_flag(b: Lifter) -> None:
    flag, value = _SET[b.instruction.mnemonic]
    b.put(flag, b.const(value, 1))


@instruction("cmc")
def cmc(b: Lifter) -> None:
    b.put("cf", b.invert(b.get("cf")))


@instruction("cli")
def cli(b: Lifter) -> None:
    privilege.require_iopl(b)
    b.put("if", b.const(0, 1))


@instruction("sti")
def sti(b: Lifter) -> None:
    """The shadow only if IF was 0 (rule S1)."""
    privilege.require_iopl(b)
    b.put("if", b.const(1, 1))
    b.put("inhibit", b.zext(b.invert(b.get("if")), 2))


@instruction("stac", "clac")
def stac(b: Lifter) -> None:
    b.fault_if(privilege.outside_cpl0(b), privilege.INVALID_OPCODE)
    b.put("ac", b.const(int(b.instruction.mnemonic == "stac"), 1))


@instruction("lahf")
def lahf(b: Lifter) -> None:
    """AH := SF:ZF:0:AF:0:PF:1:CF."""
    zero, one = b.const(0, 1), b.const(1, 1)
    image = b.get("sf")
    for bit in (b.get("zf"), zero, b.get("af"), zero, b.get("pf"), one, b.get("cf")):
        image = b.concat(image, bit)
    b.write(AH, image)


@instruction("sahf")
def sahf(b: Lifter) -> None:
    image = b.read(AH)
    for flag in _LOW_FLAGS:
        b.put(flag, b.bit(image, RFLAGS_LAYOUT[flag][0]))
