"""`evaluate` against Z3's bit-vector theory."""

from __future__ import annotations

import operator
import random

import pytest
import z3

from verifier.ir.evaluate import evaluate
from verifier.ir.ops import BINARY, COMPARE, UNARY

_Z3 = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "and": operator.and_, "or": operator.or_,
    "xor": operator.xor, "shl": operator.lshift, "lshr": z3.LShR, "ashr": operator.rshift, "udiv": z3.UDiv,
    "urem": z3.URem, "sdiv": operator.truediv, "srem": z3.SRem,
    "eq": operator.eq, "ult": z3.ULT, "ule": z3.ULE,
    "slt": operator.lt, "sle": operator.le, "not": operator.invert, "neg": operator.neg,
}  # fmt: skip


def _number(term: z3.ExprRef) -> int:
    value = z3.simplify(term)
    return int(z3.is_true(value)) if z3.is_bool(value) else value.as_long()


def _pairs(width: int) -> list[tuple[int, int]]:
    top, mask, source = 1 << (width - 1), (1 << width) - 1, random.Random(width)
    edges = {0, 1, 2 & mask, top, top - 1, mask, width & mask, (width - 1) & mask}
    others = [(source.getrandbits(width), source.getrandbits(width)) for _ in range(8)]
    return [(a, b) for a in edges for b in edges] + others


@pytest.mark.parametrize("width", [1, 8, 64, 65])
@pytest.mark.parametrize("opcode", sorted(BINARY | COMPARE))
def test_pair(opcode: str, width: int) -> None:
    for a, b in _pairs(width):
        expected = _number(_Z3[opcode](z3.BitVecVal(a, width), z3.BitVecVal(b, width)))
        result_width = 1 if opcode in COMPARE else width
        assert evaluate(opcode, (a, b), (width, width), result_width, None) == expected, (a, b)


@pytest.mark.parametrize("opcode", sorted(UNARY))
def test_single(opcode: str) -> None:
    for a, _ in _pairs(16):
        assert evaluate(opcode, (a,), (16,), 16, None) == _number(_Z3[opcode](z3.BitVecVal(a, 16)))


def test_rearranging() -> None:
    for a, b in _pairs(16):
        x, y = z3.BitVecVal(a, 16), z3.BitVecVal(b, 16)
        assert evaluate("concat", (a, b), (16, 16), 32, None) == _number(z3.Concat(x, y))
        assert evaluate("extract", (a,), (16,), 5, (11, 7)) == _number(z3.Extract(11, 7, x))
        assert evaluate("zext", (a,), (16,), 40, None) == _number(z3.ZeroExt(24, x))
        assert evaluate("sext", (a,), (16,), 40, None) == _number(z3.SignExt(24, x))
        assert evaluate("ite", (a & 1, a, b), (1, 16, 16), 16, None) == (a if a & 1 else b)
