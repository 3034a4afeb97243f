"""Multiplication and division. SDM vol. 2: MUL, IMUL, DIV, IDIV."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.lift import status
from verifier.lift.registry import instruction

if TYPE_CHECKING:
    from verifier.ir.ops import Value
    from verifier.lift.lifter import Lifter

DIVIDE_ERROR = 0


def _put_product(b: Lifter, product: Value) -> None:
    """AX, or rDX:rAX."""
    if b.width == 8:
        b.set_register("rax", product)
    else:
        b.set_register("rax", b.extract(product, b.width - 1, 0))
        b.set_register("rdx", b.extract(product, 2 * b.width - 1, b.width))


def _put_multiply_flags(b: Lifter, too_wide: Value) -> None:
    status.put_carry_overflow(b, too_wide)
    status.put_undefined(b, "sf", "zf", "af", "pf")


@instruction("mul")
def mul(b: Lifter) -> None:
    double = 2 * b.width
    product = b.binary("mul", b.zext(b.register("rax"), double), b.zext(b.read(b.source), double))
    _put_product(b, product)
    _put_multiply_flags(b, b.invert(b.is_zero(b.extract(product, double - 1, b.width))))


def _signed_product(b: Lifter, x: Value, y: Value) -> Value:
    product = b.binary("mul", b.sext(x, 2 * b.width), b.sext(y, 2 * b.width))
    low = b.extract(product, b.width - 1, 0)
    _put_multiply_flags(b, b.invert(b.binary("eq", b.sext(low, 2 * b.width), product)))
    return product


@instruction("imul")
def imul(b: Lifter) -> None:
    """One operand: as MUL. Two: destination *= source. Three: destination = second * immediate."""
    operands = b.instruction.operands
    if len(operands) == 1:
        _put_product(b, _signed_product(b, b.register("rax"), b.read(b.source)))
        return
    product = _signed_product(b, b.read(operands[1]), b.read(b.source))
    b.write(b.destination, b.extract(product, b.width - 1, 0))


@instruction("mulx")
def mulx(b: Lifter) -> None:
    """The high half goes to the last operand, also if both are one register; no flags."""
    double = 2 * b.width
    product = b.binary("mul", b.zext(b.register("rdx"), double), b.zext(b.read(b.source), double))
    b.write(b.instruction.operands[1], b.extract(product, b.width - 1, 0))
    b.write(b.destination, b.extract(product, double - 1, b.width))


def _divide(b: Lifter, quotient_opcode: str, remainder_opcode: str, extend: str) -> None:
    """#DE for a zero divisor or a quotient that does not fit; all flags undefined."""
    divisor = b.read(b.source)
    b.fault_if(b.is_zero(divisor), DIVIDE_ERROR)
    wide = b.zext(divisor, 2 * b.width) if extend == "zext" else b.sext(divisor, 2 * b.width)
    quotient = b.binary(quotient_opcode, _dividend(b), wide)
    low = b.extract(quotient, b.width - 1, 0)
    fitting = b.zext(low, 2 * b.width) if extend == "zext" else b.sext(low, 2 * b.width)
    b.fault_if(b.invert(b.binary("eq", fitting, quotient)), DIVIDE_ERROR)
    remainder = b.extract(b.binary(remainder_opcode, _dividend(b), wide), b.width - 1, 0)
    if b.width == 8:
        b.set_register("rax", b.concat(remainder, low))
    else:
        b.set_register("rax", low)
        b.set_register("rdx", remainder)
    status.put_undefined(b, "cf", "of", "sf", "zf", "af", "pf")


def _dividend(b: Lifter) -> Value:
    if b.width == 8:
        return b.register("rax", 16)
    return b.concat(b.register("rdx"), b.register("rax"))


@instruction("div")
def div(b: Lifter) -> None:
    _divide(b, "udiv", "urem", "zext")


@instruction("idiv")
def idiv(b: Lifter) -> None:
    _divide(b, "sdiv", "srem", "sext")
