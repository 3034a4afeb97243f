"""Z3 as the judge: folded terms against the same expression built of Z3's own operations, for every value."""

from __future__ import annotations

import random

import pytest
import z3
from terms_grow import BINARY, COMPARE, FULL, SHAPES, Garden, Grown, some_assignments

from verifier.machine.layout import HIGHEST_END, LOWEST_BASE
from verifier.terms import Term, show, var
from verifier.terms.smtlib import Query

COUNT = 2000 if FULL else 150
#: No multiplication and division of 64 bits: Z3 would take minutes.
CHEAP = tuple(op for op in BINARY + COMPARE + SHAPES if op not in ("mul", "udiv", "urem", "sdiv", "srem"))
RAW = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b,
    "and": lambda a, b: a & b, "or": lambda a, b: a | b, "xor": lambda a, b: a ^ b,
    "shl": lambda a, b: a << b, "lshr": z3.LShR, "ashr": lambda a, b: a >> b,
    "udiv": z3.UDiv, "urem": z3.URem, "sdiv": lambda a, b: a / b, "srem": z3.SRem,
    "not": lambda a: ~a, "neg": lambda a: -a, "concat": z3.Concat,
    "ite": lambda c, a, b: z3.If(c == 1, a, b),
    "eq": lambda a, b: a == b, "ult": z3.ULT, "ule": z3.ULE, "slt": lambda a, b: a < b, "sle": lambda a, b: a <= b,
}  # fmt: skip


def translate(term: Term) -> z3.BitVecRef:
    """What Z3 reads where the product writes a term."""
    query = Query([])
    name = query.name(term)
    text = f"{query.text}(declare-const result (_ BitVec {term.width}))(assert (= result {name}))"
    return z3.parse_smt2_string(text)[-1].arg(1)


class Raw(Garden):
    """Grows the Z3 expression beside the term: ``raw`` maps a recipe to it."""

    def __init__(self, *args: object) -> None:
        self.raw: dict[str, object] = {}
        super().__init__(*args)
        for grown in self.seeds:
            self.raw[grown.recipe] = translate(grown.term)

    def constant(self, width: int) -> Grown:
        grown = super().constant(width)
        named = Grown(grown.term, grown.values, f"{grown.recipe}:{width}")
        self.raw[named.recipe] = z3.BitVecVal(grown.term.value, width)
        return named

    def _made(self, operation: str, term: Term, args: tuple[Grown, ...], width: int, attr: object = None) -> Grown:
        grown = super()._made(operation, term, args, width, attr)
        given = [self.raw[a.recipe] for a in args]
        named = Grown(grown.term, grown.values, f"{grown.recipe}:{width}")
        self.raw[named.recipe] = self._build(operation, given, width, attr)
        return named

    @staticmethod
    def _build(operation: str, given: list, width: int, attr: object) -> object:
        if operation == "extract":
            return z3.Extract(*attr, given[0])
        if operation in ("zext", "sext"):
            extend = z3.ZeroExt if operation == "zext" else z3.SignExt
            return extend(width - given[0].size(), given[0])
        made = RAW[operation](*given)
        return z3.If(made, z3.BitVecVal(1, 1), z3.BitVecVal(0, 1)) if operation in COMPARE else made


VARIABLES = {
    8: ((var("z3.a", 8), var("z3.b", 8), var("z3.c", 1)), (1, 4, 8), BINARY + COMPARE + SHAPES),
    16: ((var("z3.d", 16), var("z3.a", 8), var("z3.c", 1)), (1, 8, 16), CHEAP),
    64: (
        (
            var("z3.base", 64, LOWEST_BASE, HIGHEST_END - 0x2000, 32),
            var("z3.other", 64, LOWEST_BASE, HIGHEST_END - 0x100, 16),
            var("z3.rax", 64),
        ),
        (1, 8, 16, 64),
        CHEAP,
    ),
}


@pytest.mark.parametrize("width", VARIABLES)
def test_a_folded_term_equals_the_raw_expression(width):
    variables, widths, operations = VARIABLES[width]
    garden = Raw(width, some_assignments(random.Random(width), 2, *variables), widths, operations)
    bounds = list(z3.parse_smt2_string(Query([], variables).text))
    for number, grown in enumerate(garden.grow(COUNT * 4, lifetime=12)):
        if grown.term.is_const and number % 4:
            continue  # most constants come of constants
        term, raw = grown.term, garden.raw[grown.recipe]
        wrong = translate(term) != raw
        solver = z3.SolverFor("QF_BV")
        solver.set("rlimit", 2_000_000)
        solver.add(*bounds, wrong)
        assert solver.check() != z3.sat, f"{grown.recipe} is not {show(term)}: {solver.model()}"


def test_intervals_and_low_bits_hold_for_every_value():
    variables, widths, operations = VARIABLES[8]
    garden = Garden("intervals", some_assignments(random.Random(1), 2, *variables), widths, operations)
    for grown in garden.grow(COUNT * 2, lifetime=12):
        term = grown.term
        x = translate(term)
        wrong = [z3.ULT(x, term.lo), z3.UGT(x, term.hi)]
        if term.known:
            wrong.append(z3.Extract(term.known - 1, 0, x) != term.residue)
        solver = z3.SolverFor("QF_BV")
        solver.set("rlimit", 2_000_000)
        solver.add(z3.Or(*wrong))
        assert solver.check() != z3.sat, show(term)
