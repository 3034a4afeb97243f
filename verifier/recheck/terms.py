"""Reads the terms of a certificate straight into expressions, each checked for its widths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from verifier.ir.cells import CELLS
from verifier.ir.ops import BINARY, COMPARE
from verifier.recheck.expression import Expr, concat, const, operation, var

if TYPE_CHECKING:
    from collections.abc import Callable

    from verifier.recheck.errors import Malformed
    from verifier.recheck.world import Word, World

_WIDEST: Final = 4096
_DEEPEST: Final = 150
_TERMS: Final = 200_000
_UNKNOWNS: Final = 10_000
#: Entries of all sets of variables together.
_VARIABLES: Final = 20_000_000


class TermReader:
    """The terms of one proof by number: each speaks only of those before it, so there are no cycles."""

    def __init__(self, world: World, error: Callable[[str], Malformed]) -> None:
        self._world = world
        self._error = error
        self._terms: list[Expr] = []
        self._depths: list[int] = []
        self._variables = 0

    def get(self, number: Any, width: int) -> Expr:
        term = self._term(number)
        if term.width != width:
            raise self._error(f"a term of {term.width} bits where {width} belong")
        return term

    def add(self, entry: list[Any]) -> None:
        """One line: an operation, then its arguments."""
        if not entry or not isinstance(entry[0], str) or len(self._terms) >= _TERMS:
            raise self._error("no term, or too many")
        op, *rest = entry
        leaf = _LEAVES.get(op)
        if leaf is not None:
            term, depth = leaf(self, rest), 0
        else:
            term, depth = self._operation(op, rest)
        self._variables += len(term.free)
        if depth > _DEEPEST or term.width > _WIDEST or self._variables > _VARIABLES:
            raise self._error("terms are deeper, wider or more than a certificate needs")
        self._terms.append(term)
        self._depths.append(depth)

    def word(self, region: Any, offset: Any) -> Word:
        known = self._world.machine.regions.get(region) if isinstance(region, str) else None
        if known is None or type(offset) is not int or offset % 8 or not 0 <= offset < known.size:
            raise self._error("no such word of memory")
        return known.name, offset

    def _term(self, number: Any) -> Expr:
        if type(number) is not int or not 0 <= number < len(self._terms):
            raise self._error("no term of that number stands before this line")
        return self._terms[number]

    # variables and constants

    def _const(self, rest: list[Any]) -> Expr:
        value, width = self._exactly(rest, 2)
        bits = self._width(width)
        if not isinstance(value, str) or len(value) > _WIDEST // 4 + 2:
            raise self._error("a constant is hexadecimal text and a width")
        try:
            number = int(value, 16)
        except ValueError:
            raise self._error("a constant is hexadecimal text and a width") from None
        if number < 0 or number >> bits:
            raise self._error(f"a constant does not fit in {bits} bits")
        return const(number, bits)

    def _unknown(self, rest: list[Any]) -> Expr:
        number, width = self._exactly(rest, 2)
        if type(number) is not int or not 0 <= number < _UNKNOWNS:
            raise self._error("an unknown is a number and a width")
        return var(self._width(width), "unknown", number)

    def _interrupted(self, rest: list[Any]) -> Expr:
        (name,) = self._exactly(rest, 1)
        if name == "rip":
            return var(64, "interrupted", "rip")
        if not isinstance(name, str) or name not in CELLS:
            raise self._error("no such cell of the interrupted context")
        return var(CELLS[name], "interrupted", name)

    def _base(self, rest: list[Any]) -> Expr:
        (name,) = self._exactly(rest, 1)
        base = self._world.bases.get(name) if isinstance(name, str) else None
        if base is None:
            raise self._error("no such region")
        return base

    def _rule(self, rest: list[Any]) -> Expr:
        (name,) = self._exactly(rest, 1)
        if not isinstance(name, str) or len(name) > 100:
            raise self._error("a rule has a name")
        return var(1, "rule", name)

    def _initial(self, rest: list[Any]) -> Expr:
        region, offset = self._exactly(rest, 2)
        return var(64, "initial", *self.word(region, offset))

    def _param(self, rest: list[Any]) -> Expr:
        if len(rest) == 2:
            return var(64, "param", *self.word(*rest))
        (name,) = self._exactly(rest, 1)
        if not isinstance(name, str) or name not in CELLS or name == "cpl":
            raise self._error("no such cell")
        return var(CELLS[name], "param", name)

    def _exactly(self, rest: list[Any], count: int) -> list[Any]:
        if len(rest) != count:
            raise self._error("a term with too few or too many parts")
        return rest

    def _width(self, width: Any) -> int:
        if type(width) is not int or not 1 <= width <= _WIDEST:
            raise self._error("no such width")
        return width

    # operations

    def _operation(self, op: str, rest: list[Any]) -> tuple[Expr, int]:
        if op == "extract":
            (source, high, low), numbers = self._exactly(rest, 3), rest[:1]
            a = self._term(source)
            if type(high) is not int or type(low) is not int or not 0 <= low <= high < a.width:
                raise self._error("bits that the argument does not have")
            term = operation(op, (a,), high - low + 1, (high, low))
        elif op == "sext":
            (source, width), numbers = self._exactly(rest, 2), rest[:1]
            a = self._term(source)
            if self._width(width) <= a.width:
                raise self._error("sign extension to no more bits")
            term = operation(op, (a,), width)
        else:
            term, numbers = self._plain(op, [self._term(n) for n in rest]), rest
        return term, 1 + max(self._depths[n] for n in numbers)

    def _plain(self, op: str, args: list[Expr]) -> Expr:
        widths = {a.width for a in args}
        if op == "concat" and args and sum(a.width for a in args) <= _WIDEST:
            return concat(*args)
        if op == "not" and len(args) == 1:
            return operation(op, (args[0],), args[0].width)
        if op in BINARY | COMPARE and len(args) == 2 and len(widths) == 1:
            return operation(op, (args[0], args[1]), 1 if op in COMPARE else args[0].width)
        if op == "ite" and len(args) == 3 and args[0].width == 1 and args[1].width == args[2].width:
            return operation(op, tuple(args), args[1].width)
        raise self._error("no operation of that name takes these arguments")


def is_param(variable: Expr) -> bool:
    """Whether a variable is what a location held where a routine begins."""
    return isinstance(variable.attr, tuple) and variable.attr[0] == "param"


_LEAVES: dict[str, Callable[[TermReader, list[Any]], Expr]] = {
    "const": TermReader._const,
    "unknown": TermReader._unknown,
    "interrupted": TermReader._interrupted,
    "base": TermReader._base,
    "rule": TermReader._rule,
    "initial": TermReader._initial,
    "param": TermReader._param,
}
