"""Shifts. SDM vol. 2B: SAL/SAR/SHL/SHR, SHLD, SHRD; flags: vol. 1, appendix A."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.asm.program import Imm
from verifier.lift import status
from verifier.lift.registry import instruction

if TYPE_CHECKING:
    from collections.abc import Callable

    from verifier.ir.ops import Value
    from verifier.lift.lifter import Lifter


def masked_count(b: Lifter) -> Value:
    """The count, as wide as the operand: five bits of it, six for a 64-bit operand."""
    mask = 0x3F if b.width == 64 else 0x1F
    if len(b.instruction.operands) == 1:
        return b.const(1, b.width)
    if isinstance(b.source, Imm):
        return b.const(b.source.value & mask, b.width)
    return b.zext(b.binary("and", b.register("rcx", 8), b.const(mask, 8)), b.width)


def put_unless_zero(b: Lifter, count: Value, flag: str, value: Value) -> None:
    """A masked count of 0 leaves every flag as it was."""
    zero = b.is_zero(count)
    if b.known(zero) == 1:
        return
    b.put(flag, value if b.known(zero) == 0 else b.ite(zero, b.get(flag), value))


def put_overflow(b: Lifter, count: Value, value: Value) -> None:
    """OF: defined for a count of 1 only."""
    one = b.binary("eq", count, b.const(1, count.width))
    put_unless_zero(b, count, "of", b.ite(one, value, b.undef(1)))


def _put_result_flags(b: Lifter, count: Value, result: Value, undefined: Value | None = None) -> None:
    """SF, ZF, PF by the result (or undefined under a condition), AF undefined."""
    values = {"sf": b.sign(result), "zf": b.is_zero(result), "pf": status.parity(b, result)}
    for flag, value in values.items():
        shown = value if undefined is None else b.ite(undefined, b.undef(1), value)
        put_unless_zero(b, count, flag, shown)
    put_unless_zero(b, count, "af", b.undef(1))


def _at_least_width(b: Lifter, count: Value) -> Value:
    return b.binary("ule", b.const(b.width, count.width), count)


@instruction("shl")
def shl(b: Lifter) -> None:
    value, count = b.read(b.destination), masked_count(b)
    # One more bit on the left catches the last bit shifted out.
    wide = b.binary("shl", b.zext(value, b.width + 1), b.zext(count, b.width + 1))
    result, carry = b.extract(wide, b.width - 1, 0), b.sign(wide)
    put_unless_zero(b, count, "cf", b.ite(_at_least_width(b, count), b.undef(1), carry))
    put_overflow(b, count, b.binary("xor", b.sign(result), carry))
    _put_result_flags(b, count, result)
    b.write(b.destination, result)


def _right(b: Lifter, opcode: str, value: Value, count: Value) -> tuple[Value, Value]:
    """Result, and the last bit shifted out: one more bit on the right catches it."""
    padded = b.concat(value, b.const(0, 1))
    wide = b.binary(opcode, padded, b.zext(count, b.width + 1))
    return b.extract(wide, b.width, 1), b.bit(wide, 0)


@instruction("shr")
def shr(b: Lifter) -> None:
    value, count = b.read(b.destination), masked_count(b)
    result, carry = _right(b, "lshr", value, count)
    put_unless_zero(b, count, "cf", b.ite(_at_least_width(b, count), b.undef(1), carry))
    put_overflow(b, count, b.sign(value))
    _put_result_flags(b, count, result)
    b.write(b.destination, result)


@instruction("sar")
def sar(b: Lifter) -> None:
    count = masked_count(b)
    result, carry = _right(b, "ashr", b.read(b.destination), count)
    put_unless_zero(b, count, "cf", carry)
    put_overflow(b, count, b.const(0, 1))
    _put_result_flags(b, count, result)
    b.write(b.destination, result)


def _double(b: Lifter, shift: Callable[[Value, Value, Value], tuple[Value, Value]]) -> None:
    """SHLD and SHRD; ``shift`` gives result and carry of destination, filling register and count.

    A count above the operand size, possible with 16 bits only, leaves destination and flags undefined.
    """
    old, fill, count = b.read(b.destination), b.read(b.instruction.operands[-2]), masked_count(b)
    result, carry = shift(old, fill, count)
    too_far = b.binary("ult", b.const(b.width, b.width), count)
    result = b.ite(too_far, b.undef(b.width), result)
    put_unless_zero(b, count, "cf", b.ite(too_far, b.undef(1), carry))
    put_overflow(b, count, b.binary("xor", b.sign(old), b.sign(result)))
    _put_result_flags(b, count, result, too_far)
    b.write(b.destination, result)


@instruction("shld")
def shld(b: Lifter) -> None:
    def shift(old: Value, fill: Value, count: Value) -> tuple[Value, Value]:
        pair = b.zext(b.concat(old, fill), 2 * b.width + 1)
        wide = b.binary("shl", pair, b.zext(count, pair.width))
        return b.extract(wide, 2 * b.width - 1, b.width), b.sign(wide)

    _double(b, shift)


@instruction("shrd")
def shrd(b: Lifter) -> None:
    def shift(old: Value, fill: Value, count: Value) -> tuple[Value, Value]:
        pair = b.concat(b.concat(fill, old), b.const(0, 1))
        wide = b.binary("lshr", pair, b.zext(count, pair.width))
        return b.extract(wide, b.width, 1), b.bit(wide, 0)

    _double(b, shift)


@instruction("shlx", "shrx", "sarx")
def shift_without_flags(b: Lifter) -> None:
    """BMI2: the count stands in a register operand; no flags."""
    opcode = {"shlx": "shl", "shrx": "lshr", "sarx": "ashr"}[b.instruction.mnemonic]
    count = b.binary("and", b.read(b.source), b.const(b.width - 1, b.width))
    b.write(b.destination, b.binary(opcode, b.read(b.instruction.operands[1]), count))
