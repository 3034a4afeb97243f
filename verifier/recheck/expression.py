"""Bit-vector expressions of the recheck: interned, so that equal ones are one object, and folded a little.

Folding does what concrete control needs: constants, sums of a variable and a constant, and taking words apart and
together. What it does not see the solver decides. Each rule is compared with the solver in the tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.ir.evaluate import evaluate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Attr = int | str | tuple[int | str, ...] | None


class Expr:
    """``op`` is ``const`` (``attr``: its value), ``var`` (``attr``: its name) or an operation of `verifier.ir.ops`;
    ``concat`` has any number of parts, highest first. ``width`` in bits; one bit is a truth value.

    ``free``: its variables.
    """

    __slots__ = ("args", "attr", "free", "op", "width")

    op: str
    args: tuple[Expr, ...]
    attr: Attr
    width: int
    free: frozenset[Expr]

    @property
    def is_const(self) -> bool:
        return self.op == "const"

    @property
    def value(self) -> int:
        """The value of a ``const``."""
        assert isinstance(self.attr, int)
        return self.attr


_table: dict[tuple[object, ...], Expr] = {}
#: What operations fold to: a term that is used twice is folded once.
_results: dict[tuple[object, ...], Expr] = {}
_NONE: frozenset[Expr] = frozenset()


def _intern(op: str, args: tuple[Expr, ...], width: int, attr: Attr = None) -> Expr:
    key = (op, args, width, attr)
    found = _table.get(key)
    if found is None:
        found = Expr()
        found.op, found.args, found.attr, found.width = op, args, attr, width
        found.free = _free(found)
        _table[key] = found
    return found


def _free(e: Expr) -> frozenset[Expr]:
    if e.op == "var":
        return frozenset((e,))
    sets = {a.free for a in e.args if a.free}
    return next(iter(sets)) if len(sets) == 1 else _NONE.union(*sets)


def const(value: int, width: int) -> Expr:
    """``value`` modulo 2^width."""
    return _intern("const", (), width, value & ((1 << width) - 1))


def var(width: int, *name: int | str) -> Expr:
    return _intern("var", (), width, name)


def operation(op: str, args: tuple[Expr, ...], width: int, attr: Attr = None) -> Expr:
    """The result, ``width`` bits, of a pure operation of `verifier.ir.ops`."""
    if op == "concat":
        return concat(*args)
    key = (op, args, width, attr)
    found = _results.get(key)
    if found is None:
        found = _results[key] = _folded(op, args, width, attr)
    return found


def _folded(op: str, args: tuple[Expr, ...], width: int, attr: Attr) -> Expr:
    if all(a.is_const for a in args):
        values, widths = tuple([a.value for a in args]), tuple([a.width for a in args])
        return const(evaluate(op, values, widths, width, _bits(attr)), width)
    rule = _RULES.get(op)
    found = rule(args, width, attr) if rule is not None else None
    return _intern(op, args, width, attr) if found is None else found


def _bits(attr: Attr) -> tuple[int, int] | None:
    if isinstance(attr, tuple):
        high, low = attr
        assert isinstance(high, int)
        assert isinstance(low, int)
        return high, low
    return None


# folding


def _add(args: tuple[Expr, ...], width: int, _attr: Attr) -> Expr | None:
    a, b = args
    if a.is_const:
        a, b = b, a
    if not b.is_const:
        for x, y in ((a, b), (b, a)):
            if x.op == "add" and x.args[1].is_const:
                return add(add(x.args[0], y), x.args[1])
        return None
    if b.value == 0:
        return a
    if a.op == "add" and a.args[1].is_const:
        return add(a.args[0], const(a.args[1].value + b.value, width))
    return _intern("add", (a, b), width)


def _sub(args: tuple[Expr, ...], width: int, _attr: Attr) -> Expr | None:
    a, b = args
    (x, c), (y, d) = split(a), split(b)
    if x is y:
        return const(c - d, width)
    return add(a, const(-b.value, width)) if b.is_const else None


def _and(args: tuple[Expr, ...], width: int, _attr: Attr) -> Expr | None:
    a, b = args if args[1].is_const else args[::-1]
    if b.is_const and b.value == 0:
        return b
    return a if a is b or (b.is_const and b.value == (1 << width) - 1) else None


def _or(args: tuple[Expr, ...], width: int, _attr: Attr) -> Expr | None:
    a, b = args if args[1].is_const else args[::-1]
    if b.is_const and b.value == (1 << width) - 1:
        return b
    return a if a is b or (b.is_const and b.value == 0) else None


def _xor(args: tuple[Expr, ...], width: int, _attr: Attr) -> Expr | None:
    a, b = args if args[1].is_const else args[::-1]
    if a is b:
        return const(0, width)
    return a if b.is_const and b.value == 0 else None


def _not(args: tuple[Expr, ...], _width: int, _attr: Attr) -> Expr | None:
    return args[0].args[0] if args[0].op == "not" else None


def _ite(args: tuple[Expr, ...], _width: int, _attr: Attr) -> Expr | None:
    condition, then, other = args
    if condition.is_const:
        return then if condition.value else other
    return then if then is other else None


def _eq(args: tuple[Expr, ...], _width: int, _attr: Attr) -> Expr | None:
    a, b = args
    (x, c), (y, d) = split(a), split(b)
    if x is y:
        return const(int(c == d), 1)
    if a.width > 1:
        return None
    if a.is_const:
        a, b = b, a
    return (a if b.value else not_(a)) if b.is_const else None


def _extract(args: tuple[Expr, ...], width: int, attr: Attr) -> Expr | None:
    (a,), bits = args, _bits(attr)
    assert bits is not None
    high, low = bits
    if width == a.width:
        return a
    if a.op == "extract":
        inner = _bits(a.attr)
        assert inner is not None
        return extract(a.args[0], inner[1] + high, inner[1] + low)
    if a.op == "concat":
        return concat(*_picked(a.args, high, low))
    if a.op in ("and", "or", "xor", "not"):
        return operation(a.op, tuple([extract(x, high, low) for x in a.args]), width)
    if a.op == "ite":
        return ite(a.args[0], extract(a.args[1], high, low), extract(a.args[2], high, low))
    if a.op == "sext" and high < a.args[0].width:
        return extract(a.args[0], high, low)
    return None


def _picked(parts: tuple[Expr, ...], high: int, low: int) -> Iterable[Expr]:
    """The pieces of a concatenation that its bits ``high`` to ``low`` are made of, highest first."""
    at = sum(p.width for p in parts)
    for part in parts:
        top, at = at - 1, at - part.width
        if at <= high and top >= low:
            yield extract(part, min(high, top) - at, max(low, at) - at)


def _zext(args: tuple[Expr, ...], width: int, _attr: Attr) -> Expr:
    return concat(const(0, width - args[0].width), args[0]) if width > args[0].width else args[0]


_RULES: Mapping[str, Callable[[tuple[Expr, ...], int, Attr], Expr | None]] = {
    "add": _add,
    "sub": _sub,
    "and": _and,
    "or": _or,
    "xor": _xor,
    "not": _not,
    "ite": _ite,
    "eq": _eq,
    "extract": _extract,
    "zext": _zext,
}


def concat(*parts: Expr) -> Expr:
    """Parts side by side, highest first; neighbours that belong together are joined."""
    joined: list[Expr] = []
    for part in parts:
        for piece in part.args if part.op == "concat" else (part,):
            both = _join(joined[-1], piece) if joined else None
            if both is None:
                joined.append(piece)
            else:
                joined[-1] = both
    return joined[0] if len(joined) == 1 else _intern("concat", tuple(joined), sum(p.width for p in joined))


def _join(high: Expr, low: Expr) -> Expr | None:
    if high.is_const and low.is_const:
        return const(high.value << low.width | low.value, high.width + low.width)
    if high.op == low.op == "extract" and high.args == low.args:
        above, below = _bits(high.attr), _bits(low.attr)
        assert above is not None
        assert below is not None
        if above[1] == below[0] + 1:
            return extract(high.args[0], above[0], below[1])
    return None


# shorthand


def add(a: Expr, b: Expr) -> Expr:
    return operation("add", (a, b), a.width)


def offset(a: Expr, distance: int) -> Expr:
    """``a`` and a constant."""
    return add(a, const(distance, a.width))


def split(a: Expr) -> tuple[Expr | None, int]:
    """An expression as a variable part and a constant, unsigned; a constant has no variable part."""
    if a.is_const:
        return None, a.value
    if a.op == "add" and a.args[1].is_const:
        return a.args[0], a.args[1].value
    return a, 0


def eq(a: Expr, b: Expr) -> Expr:
    return operation("eq", (a, b), 1)


def ult(a: Expr, b: Expr) -> Expr:
    return operation("ult", (a, b), 1)


def ule(a: Expr, b: Expr) -> Expr:
    return operation("ule", (a, b), 1)


def not_(a: Expr) -> Expr:
    return operation("not", (a,), a.width)


def and_(a: Expr, b: Expr) -> Expr:
    return operation("and", (a, b), a.width)


def or_(a: Expr, b: Expr) -> Expr:
    return operation("or", (a, b), a.width)


def ite(condition: Expr, then: Expr, other: Expr) -> Expr:
    return operation("ite", (condition, then, other), then.width)


def extract(a: Expr, high: int, low: int) -> Expr:
    """Bits ``high`` to ``low``, both inclusive."""
    return operation("extract", (a,), high - low + 1, (high, low))


def zext(a: Expr, width: int) -> Expr:
    return operation("zext", (a,), width)


def sext(a: Expr, width: int) -> Expr:
    return operation("sext", (a,), width) if width > a.width else a


def all_of(conditions: Iterable[Expr]) -> Expr:
    result = TRUE
    for condition in conditions:
        result = and_(result, condition)
    return result


def any_of(conditions: Iterable[Expr]) -> Expr:
    result = FALSE
    for condition in conditions:
        result = or_(result, condition)
    return result


def substitute(e: Expr, values: Mapping[Expr, Expr]) -> Expr:
    """``e`` with variables replaced by expressions of the same width."""
    if e.op == "var" or e.free.isdisjoint(values):
        return values.get(e, e)
    done: dict[Expr, Expr] = {}
    stack = [e]
    while stack:
        x = stack[-1]
        missing = [a for a in x.args if a not in done]
        if missing and not x.free.isdisjoint(values):
            stack += missing
            continue
        done[stack.pop()] = _replaced(x, values, done)
    return done[e]


def _replaced(x: Expr, values: Mapping[Expr, Expr], done: Mapping[Expr, Expr]) -> Expr:
    if x.op == "var":
        return values.get(x, x)
    if x.free.isdisjoint(values):
        return x
    return operation(x.op, tuple([done[a] for a in x.args]), x.width, x.attr)


TRUE = const(1, 1)
FALSE = const(0, 1)
