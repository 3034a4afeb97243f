"""Rotations. SDM vol. 2B: RCL/RCR/ROL/ROR. They change CF and OF only, unless the masked count is 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.asm.program import Imm
from verifier.lift.registry import instruction
from verifier.lift.shifts import masked_count, put_overflow, put_unless_zero

if TYPE_CHECKING:
    from verifier.ir.ops import Value
    from verifier.lift.lifter import Lifter


def _rotate_left(b: Lifter, value: Value, count: Value) -> Value:
    """By ``count`` below the width."""
    back = b.binary("sub", b.const(value.width, value.width), count)
    return b.binary("or", b.binary("shl", value, count), b.binary("lshr", value, back))


def _rotate_right(b: Lifter, value: Value, count: Value) -> Value:
    back = b.binary("sub", b.const(value.width, value.width), count)
    return b.binary("or", b.binary("lshr", value, count), b.binary("shl", value, back))


def _modulo(b: Lifter, count: Value, size: int) -> Value:
    """A masked count reaches beyond 8 and 16 bits only."""
    if size >= 32:
        return count
    return b.binary("urem", count, b.const(size, count.width))


def _top_two_differ(b: Lifter, result: Value) -> Value:
    return b.binary("xor", b.sign(result), b.bit(result, result.width - 2))


@instruction("rol")
def rol(b: Lifter) -> None:
    count = masked_count(b)
    result = _rotate_left(b, b.read(b.destination), _modulo(b, count, b.width))
    put_unless_zero(b, count, "cf", b.bit(result, 0))
    put_overflow(b, count, b.binary("xor", b.sign(result), b.bit(result, 0)))
    b.write(b.destination, result)


@instruction("ror")
def ror(b: Lifter) -> None:
    count = masked_count(b)
    result = _rotate_right(b, b.read(b.destination), _modulo(b, count, b.width))
    put_unless_zero(b, count, "cf", b.sign(result))
    put_overflow(b, count, _top_two_differ(b, result))
    b.write(b.destination, result)


def _through_carry(b: Lifter) -> tuple[Value, Value, Value]:
    """Masked count, CF:operand, and the count modulo their joint width."""
    count = masked_count(b)
    joint = b.concat(b.get("cf"), b.read(b.destination))
    return count, joint, b.zext(_modulo(b, count, joint.width), joint.width)


@instruction("rcl")
def rcl(b: Lifter) -> None:
    count, joint, places = _through_carry(b)
    rotated = _rotate_left(b, joint, places)
    result, carry = b.extract(rotated, b.width - 1, 0), b.sign(rotated)
    put_unless_zero(b, count, "cf", carry)
    put_overflow(b, count, b.binary("xor", b.sign(result), carry))
    b.write(b.destination, result)


@instruction("rcr")
def rcr(b: Lifter) -> None:
    count, joint, places = _through_carry(b)
    rotated = _rotate_right(b, joint, places)
    result = b.extract(rotated, b.width - 1, 0)
    put_unless_zero(b, count, "cf", b.sign(rotated))
    put_overflow(b, count, _top_two_differ(b, result))
    b.write(b.destination, result)


@instruction("rorx")
def rorx(b: Lifter) -> None:
    assert isinstance(b.source, Imm)
    count = b.const(b.source.value % b.width, b.width)
    b.write(b.destination, _rotate_right(b, b.read(b.instruction.operands[1]), count))
