"""Sums, with at most one constant, on the right: an address is ``base + constant``."""

from __future__ import annotations

from verifier.terms.term import Term, const, intern


def add(a: Term, b: Term) -> Term:
    if a.is_const:
        a, b = b, a
    if not b.is_const:
        return _add_terms(a, b)
    if b.value == 0:
        return a
    if a.is_const:
        return const(a.value + b.value, a.width)
    if a.op == "add" and a.args[1].is_const:
        return add(a.args[0], const(a.args[1].value + b.value, a.width))
    return _sum(a, b)


def _add_terms(a: Term, b: Term) -> Term:
    if a.op == "add" and a.args[1].is_const:
        return add(add(a.args[0], b), a.args[1])
    if b.op == "add" and b.args[1].is_const:
        return add(add(a, b.args[0]), b.args[1])
    for x, y in ((a, b), (b, a)):
        if y.op == "sub" and y.args[1] is x:  # x + (z - x)
            return y.args[0]
    return _sum(a, b)


def _sum(a: Term, b: Term) -> Term:
    width = a.width
    size = 1 << width
    offset = signed(b.value, width) if b.is_const else 0
    lo, hi = (a.lo + offset, a.hi + offset) if b.is_const else (a.lo + b.lo, a.hi + b.hi)
    if lo < 0 or hi >= size:
        lo, hi = 0, size - 1
    known = min(a.known, b.known)
    return intern("add", (a, b), width, None, lo, hi, known, (a.residue + b.residue) & ((1 << known) - 1))


def signed(value: int, width: int) -> int:
    """The two's complement value of an unsigned one."""
    return value - (1 << width) if value >> (width - 1) & 1 else value


def split(a: Term) -> tuple[Term, int]:
    """A term as (rest, constant)."""
    if a.op == "add" and a.args[1].is_const:
        return a.args[0], a.args[1].value
    return a, 0
