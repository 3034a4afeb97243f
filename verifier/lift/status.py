"""The status flags of a result (SDM vol. 1, 3.4.3.1), and the conditions made of them (appendix B)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.asm.program import CONDITIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from verifier.ir.ops import Value
    from verifier.lift.lifter import Lifter


def parity(b: Lifter, result: Value) -> Value:
    """1 if the low byte has an even number of ones."""
    byte = b.extract(result, 7, 0)
    for shift in (4, 2, 1):
        byte = b.binary("xor", byte, b.binary("lshr", byte, b.const(shift, 8)))
    return b.invert(b.bit(byte, 0))


def put_sign_zero_parity(b: Lifter, result: Value) -> None:
    b.put("sf", b.sign(result))
    b.put("zf", b.is_zero(result))
    b.put("pf", parity(b, result))


def put_adjust(b: Lifter, x: Value, y: Value, result: Value) -> None:
    """AF: the carry or borrow between bits 3 and 4."""
    b.put("af", b.bit(b.binary("xor", b.binary("xor", x, y), result), 4))


def put_undefined(b: Lifter, *flags: str) -> None:
    for flag in flags:
        b.put(flag, b.undef(1))


def put_carry_overflow(b: Lifter, value: Value) -> None:
    b.put("cf", value)
    b.put("of", value)


def add(b: Lifter, x: Value, y: Value, carry: Value | None = None) -> Value:
    """x + y + carry; puts all six status flags."""
    result = b.binary("add", x, y)
    carries = b.binary("ult", result, x)
    if carry is not None:
        result = b.binary("add", result, b.zext(carry, x.width))
        carries = b.ite(carry, b.binary("ule", result, x), carries)
    b.put("cf", carries)
    b.put("of", b.sign(b.binary("and", b.binary("xor", x, result), b.binary("xor", y, result))))
    put_adjust(b, x, y, result)
    put_sign_zero_parity(b, result)
    return result


def subtract(b: Lifter, x: Value, y: Value, borrow: Value | None = None) -> Value:
    """x - y - borrow; puts all six status flags."""
    result = b.binary("sub", x, y)
    less = b.binary("ult", x, y)
    if borrow is not None:
        less = b.ite(borrow, b.binary("ule", x, y), less)
        result = b.binary("sub", result, b.zext(borrow, x.width))
    b.put("cf", less)
    b.put("of", b.sign(b.binary("and", b.binary("xor", x, y), b.binary("xor", x, result))))
    put_adjust(b, x, y, result)
    put_sign_zero_parity(b, result)
    if borrow is None:
        b.put("zf", b.binary("eq", x, y))
    return result


def logical(b: Lifter, result: Value) -> Value:
    """CF = OF = 0, AF undefined, the others by the result."""
    put_carry_overflow(b, b.const(0, 1))
    put_undefined(b, "af")
    put_sign_zero_parity(b, result)
    return result


def _below_or_equal(b: Lifter) -> Value:
    return b.binary("or", b.get("cf"), b.get("zf"))


def _less(b: Lifter) -> Value:
    return b.binary("xor", b.get("sf"), b.get("of"))


def _less_or_equal(b: Lifter) -> Value:
    return b.binary("or", b.get("zf"), _less(b))


#: The even conditions; each odd one is the opposite of the one before it.
_CONDITIONS: dict[str, Callable[[Lifter], Value]] = {
    "o": lambda b: b.get("of"),
    "b": lambda b: b.get("cf"),
    "e": lambda b: b.get("zf"),
    "be": _below_or_equal,
    "s": lambda b: b.get("sf"),
    "p": lambda b: b.get("pf"),
    "l": _less,
    "le": _less_or_equal,
}


def condition(b: Lifter) -> Value:
    """Whether the instruction's condition code holds."""
    code = b.instruction.condition
    assert code is not None
    number = CONDITIONS.index(code)
    holds = _CONDITIONS[CONDITIONS[number & ~1]](b)
    return b.invert(holds) if number & 1 else holds
