"""What the recheck's expressions fold to is what both solvers say that they are."""

from __future__ import annotations

from random import Random

import pytest

from verifier.ir.ops import BINARY, COMPARE
from verifier.recheck.expression import Expr, _intern, const, operation, substitute, var
from verifier.recheck.solver import backend

WIDTHS = (1, 8, 16)
FOLDED = ("add", "not", "neg", "ite", "concat", "extract", "extract", "zext", "sext")
OPERATIONS = (*sorted(BINARY | COMPARE), *FOLDED)


class Grower:
    """Grows one random expression twice: folded, and as it is written."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.made: dict[int, list[tuple[Expr, Expr]]] = {}

    def leaf(self, width: int) -> tuple[Expr, Expr]:
        r = self.random
        value = r.choice((0, 1, (1 << width) - 1, 1 << (width - 1), r.getrandbits(width)))
        leaf = const(value, width) if r.random() < 0.4 else var(width, "x", r.randrange(3))
        return leaf, leaf

    def some(self, width: int) -> tuple[Expr, Expr]:
        known = self.made.get(width)
        return self.random.choice(known) if known and self.random.random() < 0.7 else self.leaf(width)

    def grow(self) -> tuple[Expr, Expr]:
        r = self.random
        width = r.choice(WIDTHS)
        op = r.choice(OPERATIONS)
        attr: tuple[int, int] | None = None
        if op in BINARY | COMPARE:
            args, out = [self.some(width), self.some(width)], 1 if op in COMPARE else width
        elif op == "ite":
            args, out = [self.some(1), self.some(width), self.some(width)], width
        elif op == "concat":
            args = [self.some(r.choice(WIDTHS)) for _ in range(2)]
            out = sum(a.width for a, _ in args)
        elif op == "extract":
            args = [self.some(r.choice([w for w in self.made if w > 1] or [8]))]
            low = r.randrange(args[0][0].width)
            attr = (r.randrange(low, args[0][0].width), low)
            out = attr[0] - low + 1
        else:
            args, out = [self.some(width)], width + (r.randrange(1, 9) if op in ("zext", "sext") else 0)
        made = (
            operation(op, tuple(a for a, _ in args), out, attr),
            self.plain(op, tuple(b for _, b in args), out, attr),
        )
        self.made.setdefault(out, []).append(made)
        return made

    @staticmethod
    def plain(op: str, args: tuple[Expr, ...], width: int, attr: tuple[int, int] | None) -> Expr:
        if op == "zext":
            return _intern("concat", (const(0, width - args[0].width), *args), width)
        return _intern(op, args, width, attr)


@pytest.mark.parametrize("solver", ["z3", "bitwuzla"])
@pytest.mark.parametrize("seed", range(12))
def test_folding_keeps_the_value(seed: int, solver: str) -> None:
    ask = backend(solver)
    grower = Grower(Random(seed))
    for _ in range(40):
        folded, plain = grower.grow()
        assert folded.width == plain.width
        if folded is not plain:
            differ = _intern("not", (_intern("eq", (folded, plain), 1),), 1)
            assert ask.satisfiable([differ]) == "unsat", (plain.op, plain.width)


@pytest.mark.parametrize("solver", ["z3", "bitwuzla"])
def test_a_solver_finds_what_there_is(solver: str) -> None:
    ask = backend(solver)
    x = var(16, "x")
    small = operation("ult", (x, const(4, 16)), 1)
    odd = operation("extract", (x,), 1, (0, 0))
    assert ask.satisfiable([small, odd]) == "sat"
    assert ask.value([small, odd], x) in (1, 3)
    assert ask.satisfiable([small, operation("ult", (const(9, 16), x), 1)]) == "unsat"
    assert ask.value([const(0, 1)], x) is None


def test_substitution_folds() -> None:
    x, y = var(64, "x"), var(64, "y")
    term = operation("add", (operation("add", (x, const(8, 64)), 64), y), 64)
    assert substitute(term, {x: const(2, 64), y: const(3, 64)}) is const(13, 64)
    assert substitute(term, {y: const(0, 64)}) is operation("add", (x, const(8, 64)), 64)
    assert substitute(term, {}) is term
