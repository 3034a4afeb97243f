"""Concatenation, extraction, extension, bitwise logic and shifts, folded as they are built.

A concatenation is flat, with adjacent constants and adjacent extracts of one term joined: packing RFLAGS into a word
and unpacking it again gives back the very same terms.
"""

from __future__ import annotations

from functools import reduce
from itertools import pairwise

from verifier.terms.sums import add
from verifier.terms.term import FALSE, TRUE, Term, const, intern


def concat(*parts: Term) -> Term:
    """The parts from the highest to the lowest."""
    flat: list[Term] = []
    for part in parts:
        for piece in part.args if part.op == "concat" else (part,):
            if flat:
                joined = _join(flat[-1], piece)
                if joined is not None:
                    flat[-1] = joined
                    continue
            flat.append(piece)
    if len(flat) == 1:
        return flat[0]
    width = sum([p.width for p in flat])
    lo = hi = 0
    for p in flat:
        lo, hi = lo << p.width | p.lo, hi << p.width | p.hi
    known = residue = 0
    for p in reversed(flat):
        residue |= p.residue << known
        known += p.known
        if p.known < p.width:
            break
    return intern("concat", tuple(flat), width, None, lo, hi, known, residue)


def _join(high: Term, low: Term) -> Term | None:
    if high.op == "const" and low.op == "const":
        return const(high.value << low.width | low.value, high.width + low.width)
    if high.op == "extract" and low.op == "extract" and high.args[0] is low.args[0]:
        (top, middle), (below, bottom) = _bits(high), _bits(low)
        if middle == below + 1:
            return extract(high.args[0], top, bottom)
    if high.op == "extract" and low.op == "const":
        whole, (top, middle) = high.args[0], _bits(high)
        bottom = middle - low.width
        if bottom >= 0 and whole.known >= middle and (whole.residue >> bottom) & ((1 << low.width) - 1) == low.value:
            return extract(whole, top, bottom)
    return None


def _bits(term: Term) -> tuple[int, int]:
    assert isinstance(term.attr, tuple)
    return term.attr


def extract(a: Term, high: int, low: int) -> Term:
    """Bits ``high`` down to ``low`` of a term."""
    width = high - low + 1
    if width == a.width:
        return a
    if a.op == "const" or a.known > high:
        return const(a.residue >> low, width)
    if a.op == "extract":
        base = _bits(a)[1]
        return extract(a.args[0], base + high, base + low)
    if a.op == "concat":
        return _extract_parts(a, high, low)
    if a.op == "sext" and high < a.args[0].width:
        return extract(a.args[0], high, low)
    if a.op == "ite" and (a.args[1].is_const or a.args[2].is_const):
        return ite(a.args[0], extract(a.args[1], high, low), extract(a.args[2], high, low))
    if a.op == "add" and a.args[1].is_const and high == low == a.args[0].known:
        # the lowest bit of base + c that is not known: no carry from below is unknown
        root, c = a.args
        flip = root.residue + (c.value & ((2 << low) - 1)) >> low & 1
        return xor(extract(root, low, low), const(flip, 1))
    if a.op in ("and", "or", "xor", "not"):
        return _bitwise(a.op, [extract(x, high, low) for x in a.args])
    known = max(0, a.known - low)
    return intern("extract", (a,), width, (high, low), known=known, residue=a.residue >> low & ((1 << known) - 1))


def _bitwise(op: str, args: list[Term]) -> Term:
    if op == "not":
        return not_(args[0])
    return {"and": and_, "or": or_, "xor": xor}[op](*args)


def _extract_parts(a: Term, high: int, low: int) -> Term:
    picked: list[Term] = []
    at = a.width
    for part in a.args:
        top, at = at - 1, at - part.width
        if top < low:
            break
        if at > high:
            continue
        picked.append(extract(part, min(high, top) - at, max(low, at) - at))
    return concat(*picked)


def zext(a: Term, width: int) -> Term:
    return a if width == a.width else concat(const(0, width - a.width), a)


def sext(a: Term, width: int) -> Term:
    if width == a.width:
        return a
    sign = extract(a, a.width - 1, a.width - 1)
    if sign.is_const:
        return concat(const(-sign.value, width - a.width), a)
    return intern("sext", (a,), width, None, known=a.known, residue=a.residue)


def ite(condition: Term, then: Term, other: Term) -> Term:
    """``then`` if the one-bit condition holds, else ``other``."""
    if condition.is_const:
        return then if condition.value else other
    if then is other:
        return then
    if condition.op == "not":
        return ite(condition.args[0], other, then)
    if then.op == "ite" and then.args[0] is condition:
        then = then.args[1]
    if other.op == "ite" and other.args[0] is condition:
        other = other.args[2]
    if then is other:
        return then
    if then.width == 1 and (then.is_const or other.is_const):
        if then.is_const:
            return or_(condition, other) if then.value else and_(not_(condition), other)
        return or_(not_(condition), then) if other.value else and_(condition, then)
    lo, hi = min(then.lo, other.lo), max(then.hi, other.hi)
    return intern("ite", (condition, then, other), then.width, None, lo, hi)


def not_(a: Term) -> Term:
    if a.is_const:
        return const(~a.value, a.width)
    if a.op == "not":
        return a.args[0]
    if a.op == "concat":
        return concat(*[not_(p) for p in a.args])
    return intern("not", (a,), a.width)


def and_(a: Term, b: Term) -> Term:
    if a.is_const:
        a, b = b, a
    if b.is_const:
        return _mask(a, b.value)
    if a is b:
        return a
    if a is not_(b):
        return const(0, a.width)
    if a.op == "and" and b in a.args:
        return a
    if b.op == "and" and a in b.args:
        return b
    return intern("and", (a, b), a.width, None, 0, min(a.hi, b.hi))


def or_(a: Term, b: Term) -> Term:
    if a.is_const:
        a, b = b, a
    if b.is_const:
        return _or_constant(a, b.value)
    if a is b:
        return a
    if a is not_(b):
        return const(-1, a.width)
    if (a.op == "or" and b in a.args) or (b.op == "and" and a in b.args):
        return a
    if (b.op == "or" and a in b.args) or (a.op == "and" and b in a.args):
        return b
    if a.op == "concat" or b.op == "concat":
        merged = _or_disjoint(a, b)
        if merged is not None:
            return merged
    return intern("or", (a, b), a.width, None, max(a.lo, b.lo))


def _or_constant(a: Term, mask: int) -> Term:
    """Ones where the mask has ones, ``a`` elsewhere. The sum of an aligned base and a constant stays one."""
    base, offset = _base_and_offset(a)
    if base.op == "var" and _is_aligned(base, mask.bit_length()):
        return add(base, const(offset | mask, a.width))
    return _select(a, mask, ones=True)


def _or_disjoint(a: Term, b: Term) -> Term | None:
    """a | b where one of them is constant zero in every stretch: shifts and ors that assemble a word."""
    cuts = sorted({0, a.width} | _cuts(a) | _cuts(b))
    parts = []
    for low, top in pairwise(cuts):
        x, y = extract(a, top - 1, low), extract(b, top - 1, low)
        if y.is_const and y.value == 0:
            parts.append(x)
        elif x.is_const and x.value == 0:
            parts.append(y)
        else:
            return None
    return concat(*reversed(parts))


def _cuts(a: Term) -> set[int]:
    if a.op != "concat":
        return set()
    at, cuts = 0, set()
    for part in reversed(a.args):
        at += part.width
        cuts.add(at)
    return cuts


def xor(a: Term, b: Term) -> Term:
    if a.is_const:
        a, b = b, a
    if a is b:
        return const(0, a.width)
    if b.is_const:
        if b.value == 0:
            return a
        if a.is_const:
            return const(a.value ^ b.value, a.width)
        if b.value == (1 << b.width) - 1:
            return not_(a)
        if a.op == "concat":
            return concat(*[xor(p, k) for p, k in _aligned(a, b)])
        if a.op == "xor" and a.args[1].is_const:
            return xor(a.args[0], const(a.args[1].value ^ b.value, a.width))
    if a is not_(b):
        return const(-1, a.width)
    return intern("xor", (a, b), a.width)


def _aligned(a: Term, b: Term) -> list[tuple[Term, Term]]:
    """The parts of a concatenation, each beside the same bits of ``b``."""
    pairs, at = [], a.width
    for part in a.args:
        top, at = at - 1, at - part.width
        pairs.append((part, extract(b, top, at)))
    return pairs


def _mask(a: Term, mask: int) -> Term:
    """Zeros where the mask has zeros, ``a`` elsewhere. The sum of an aligned base and a constant stays one."""
    if a.is_const:
        return const(a.value & mask, a.width)
    cleared = ~mask & ((1 << a.width) - 1)
    base, offset = _base_and_offset(a)
    if (base is not a or a.op == "var") and _is_aligned(base, cleared.bit_length()):
        return add(base, const(offset & mask, a.width))
    return _select(a, cleared, ones=False)


def _base_and_offset(a: Term) -> tuple[Term, int]:
    """The term as a sum with a constant."""
    return (a.args[0], a.args[1].value) if a.op == "add" and a.args[1].is_const else (a, 0)


def _is_aligned(a: Term, bits: int) -> bool:
    """Whether the lowest bits of a term are known to be zero."""
    return a.known >= bits and a.residue & ((1 << bits) - 1) == 0


def _select(a: Term, fixed: int, ones: bool) -> Term:
    """``a`` with the bits of ``fixed`` set to one or to zero."""
    if fixed == 0:
        return a
    if fixed == (1 << a.width) - 1:
        return const(-1 if ones else 0, a.width)
    parts: list[Term] = []
    low = 0
    while low < a.width:
        bit, top = fixed >> low & 1, low
        while top < a.width and fixed >> top & 1 == bit:
            top += 1
        parts.append(const(-1 if ones else 0, top - low) if bit else extract(a, top - 1, low))
        low = top
    return concat(*reversed(parts))


def shl(a: Term, b: Term) -> Term:
    if b.is_const:
        n = b.value
        if n == 0:
            return a
        if n >= a.width:
            return const(0, a.width)
        return concat(extract(a, a.width - 1 - n, 0), const(0, n))
    return intern("shl", (a, b), a.width)


def lshr(a: Term, b: Term) -> Term:
    if b.is_const:
        n = b.value
        if n == 0:
            return a
        return const(0, a.width) if n >= a.width else zext(extract(a, a.width - 1, n), a.width)
    return intern("lshr", (a, b), a.width)


def ashr(a: Term, b: Term) -> Term:
    if b.is_const:
        n = min(b.value, a.width - 1)
        return sext(extract(a, a.width - 1, n), a.width)
    return intern("ashr", (a, b), a.width)


def all_of(terms: list[Term]) -> Term:
    return reduce(and_, terms, TRUE)


def any_of(terms: list[Term]) -> Term:
    return reduce(or_, terms, FALSE)
