"""The pure SSA operations over Python integers: the meaning of an operation for a concrete run.

Division by zero, which ``fault_if`` guards against, gives what SMT-LIB's bit-vector theory gives, so that an
evaluated and a solved value never differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from verifier.ir.ops import Attr

    Binary = Callable[[int, int, int], int]


def signed(value: int, width: int) -> int:
    """The two's complement reading of ``width`` bits."""
    return value - (1 << width) if value >> (width - 1) else value


def _udiv(a: int, b: int, width: int) -> int:
    return a // b if b else (1 << width) - 1


def _urem(a: int, b: int, _width: int) -> int:
    return a % b if b else a


def _sdiv(a: int, b: int, width: int) -> int:
    dividend, divisor = signed(a, width), signed(b, width)
    quotient = _udiv(abs(dividend), abs(divisor), width)
    return quotient if (dividend < 0) == (divisor < 0) else -quotient


def _srem(a: int, b: int, width: int) -> int:
    dividend, divisor = signed(a, width), signed(b, width)
    remainder = _urem(abs(dividend), abs(divisor), width)
    return -remainder if dividend < 0 else remainder


#: opcode -> function of both arguments and their width; the result is reduced by `evaluate`.
_BINARY: dict[str, Binary] = {
    "add": lambda a, b, _: a + b,
    "sub": lambda a, b, _: a - b,
    "mul": lambda a, b, _: a * b,
    "and": lambda a, b, _: a & b,
    "or": lambda a, b, _: a | b,
    "xor": lambda a, b, _: a ^ b,
    "shl": lambda a, b, width: a << b if b < width else 0,
    "lshr": lambda a, b, width: a >> b if b < width else 0,
    "ashr": lambda a, b, width: signed(a, width) >> min(b, width - 1),
    "udiv": _udiv,
    "urem": _urem,
    "sdiv": _sdiv,
    "srem": _srem,
    "eq": lambda a, b, _: int(a == b),
    "ult": lambda a, b, _: int(a < b),
    "ule": lambda a, b, _: int(a <= b),
    "slt": lambda a, b, width: int(signed(a, width) < signed(b, width)),
    "sle": lambda a, b, width: int(signed(a, width) <= signed(b, width)),
}


def evaluate(opcode: str, args: tuple[int, ...], widths: tuple[int, ...], width: int, attr: Attr) -> int:
    """The result, ``width`` bits, of a pure operation of `verifier.ir.ops` (``const`` excepted).

    ``args`` are unsigned and reduced to ``widths`` bits each, as is the result. ``KeyError`` for an opcode
    that is no pure operation.
    """
    mask = (1 << width) - 1
    match opcode:
        case "not":
            return ~args[0] & mask
        case "neg":
            return -args[0] & mask
        case "ite":
            return args[1] if args[0] else args[2]
        case "concat":
            return args[0] << widths[1] | args[1]
        case "extract":
            assert isinstance(attr, tuple)
            return args[0] >> attr[1] & mask
        case "zext":
            return args[0]
        case "sext":
            return signed(args[0], widths[0]) & mask
        case _:
            return _BINARY[opcode](args[0], args[1], widths[0]) & mask
