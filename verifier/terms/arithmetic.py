"""Arithmetic and comparisons, folded as they are built.

Comparing two addresses of one region compares their constants, where the base's bounds show that neither sum wraps.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from verifier.terms.bits import all_of, and_, ashr, concat, extract, ite, lshr, not_, or_, sext, shl, xor
from verifier.terms.sums import add, signed, split
from verifier.terms.term import FALSE, TRUE, Term, const, intern


def sub(a: Term, b: Term) -> Term:
    if b.is_const:
        return add(a, const(-b.value, a.width))
    if a is b:
        return const(0, a.width)
    (x, c), (y, d) = split(a), split(b)
    if x is y:
        return const(c - d, a.width)
    if x.op == "add" and y in x.args:
        rest = x.args[1] if x.args[0] is y else x.args[0]
        return add(rest, const(c - d, a.width))
    if c or d:
        return add(sub(x, y), const(c - d, a.width))
    if a.width == 1:
        return xor(a, b)
    known = min(a.known, b.known)
    return intern("sub", (a, b), a.width, None, 0, None, known, (a.residue - b.residue) & ((1 << known) - 1))


def neg(a: Term) -> Term:
    return sub(const(0, a.width), a)


def mul(a: Term, b: Term) -> Term:
    if a.is_const:
        a, b = b, a
    if b.is_const:
        if a.is_const:
            return const(a.value * b.value, a.width)
        if b.value == 0:
            return b
        if b.value & (b.value - 1) == 0:
            return shl(a, const(b.value.bit_length() - 1, a.width))
    return intern("mul", (a, b), a.width)


def divide(op: str, a: Term, b: Term) -> Term:
    """``udiv urem sdiv srem``; the lifter guards against a zero divisor."""
    if a.is_const and b.is_const and b.value != 0:
        x, y = a.value, b.value
        if op[0] == "s":
            x, y = signed(x, a.width), signed(y, a.width)
        quotient = abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
        return const(quotient if op.endswith("div") else x - quotient * y, a.width)
    return intern(op, (a, b), a.width)


def eq(a: Term, b: Term) -> Term:
    if a is b:
        return TRUE
    if a.is_const:
        a, b = b, a
    if a.hi < b.lo or b.hi < a.lo:
        return FALSE
    known = min(a.known, b.known)
    if (a.residue ^ b.residue) & ((1 << known) - 1):
        return FALSE
    if b.is_const:
        return _eq_const(a, b)
    if a.width == 1:
        return not_(xor(a, b))
    (x, c), (y, d) = split(a), split(b)
    if x is y:
        return FALSE  # c != d, else a is b
    if c and d:
        return eq(x, add(y, const(d - c, a.width)))
    if a.op == "concat" and b.op == "concat" and [p.width for p in a.args] == [p.width for p in b.args]:
        return all_of([eq(p, q) for p, q in zip(a.args, b.args, strict=True)])
    return intern("eq", (a, b), 1)


def _eq_const(a: Term, b: Term) -> Term:
    if a.width == 1:
        return a if b.value else not_(a)
    if a.op == "add" and a.args[1].is_const:
        return eq(a.args[0], const(b.value - a.args[1].value, a.width))
    if a.op == "concat":
        at, parts = a.width, []
        for part in a.args:
            top, at = at - 1, at - part.width
            parts.append(eq(part, extract(b, top, at)))
            if parts[-1] is FALSE:
                return FALSE
        return all_of(parts)
    if a.op == "ite" and (a.args[1].is_const or a.args[2].is_const):
        return ite(a.args[0], eq(a.args[1], b), eq(a.args[2], b))
    if a.op in ("sub", "xor") and b.value == 0:
        return eq(a.args[0], a.args[1])
    if a.op == "not":
        return eq(a.args[0], const(~b.value, a.width))
    if a.op == "sext":
        inner = a.args[0]
        low = extract(b, inner.width - 1, 0)
        return eq(inner, low) if sext(low, a.width) is b else FALSE
    return intern("eq", (a, b), 1)


def ult(a: Term, b: Term) -> Term:
    """Unsigned less than."""
    if a is b or b.hi == 0:
        return FALSE
    if a.hi < b.lo:
        return TRUE
    if a.lo >= b.hi:
        return FALSE
    if a.width == 1:
        return and_(not_(a), b)
    (x, c), (y, d) = split(a), split(b)
    if x is y and _exact(a, x, c) and _exact(b, y, d):
        return TRUE if signed(c, a.width) < signed(d, a.width) else FALSE
    if a.op == "concat" and b.op == "concat" and a.args[-1] is b.args[-1]:
        low = a.args[-1].width
        return ult(extract(a, a.width - 1, low), extract(b, b.width - 1, low))
    if b.is_const and b.value == 1:
        return eq(a, const(0, a.width))
    return intern("ult", (a, b), 1)


def _exact(whole: Term, base: Term, constant: int) -> bool:
    """Whether base + constant never wraps."""
    offset = signed(constant, whole.width)
    return base.lo + offset >= 0 and base.hi + offset < 1 << whole.width


def ule(a: Term, b: Term) -> Term:
    return not_(ult(b, a))


def slt(a: Term, b: Term) -> Term:
    """Signed less than: unsigned, with the sign bits flipped where that folds."""
    if a is b:
        return FALSE
    if a.is_const and b.is_const:
        return TRUE if signed(a.value, a.width) < signed(b.value, b.width) else FALSE
    half = 1 << (a.width - 1)
    if b.is_const and b.value == 0:
        return extract(a, a.width - 1, a.width - 1)
    if (a.hi < half or a.lo >= half) and (b.hi < half or b.lo >= half):
        if (a.hi < half) == (b.hi < half):
            return ult(a, b)
        return TRUE if a.lo >= half else FALSE
    return intern("slt", (a, b), 1)


def sle(a: Term, b: Term) -> Term:
    return not_(slt(b, a))


def apply(opcode: str, args: tuple[Term, ...]) -> Term:
    """A pure two- or one-argument operation of `verifier.ir.ops` by name."""
    return _APPLY[opcode](*args)


_APPLY: dict[str, Callable[..., Term]] = {
    "add": add, "sub": sub, "mul": mul, "and": and_, "or": or_, "xor": xor, "shl": shl, "lshr": lshr, "ashr": ashr,
    "udiv": partial(divide, "udiv"), "urem": partial(divide, "urem"),
    "sdiv": partial(divide, "sdiv"), "srem": partial(divide, "srem"),
    "eq": eq, "ult": ult, "ule": ule, "slt": slt, "sle": sle,
    "not": not_, "neg": neg, "ite": ite, "concat": concat,
}  # fmt: skip
